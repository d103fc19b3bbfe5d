"""What is in force stays in force, whatever happens to the database, the cache or a snapshot."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.errors import ServiceUnavailable, Unauthorized
from proxy.keys import KeyWish, create_key, revoke_key
from proxy.metrics import Metrics
from proxy.serving import Serving
from router.learning.discovery import discover
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.models import PromotionRow
from storage.repositories import promotions
from storage.repositories.clusters import activate_snapshot
from tests.conftest import wait_for
from tests.router.conftest import logged_calls


@pytest.fixture(scope="module")
def snapshots() -> tuple[Snapshot, Snapshot]:
    """Two that differ."""
    return discover(logged_calls()).snapshot, discover(logged_calls()[:-40]).snapshot


class Installation:
    """A data directory with a database."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(f"sqlite:///{root / 'understudy.db'}")
        self.artifacts = ArtifactStore(root / "artifacts", Cipher.open(root))
        self.database.upgrade(Cipher.open(root))

    def activate(self, snapshot: Snapshot) -> str:
        name = self.artifacts.put("snapshot", snapshot.dump(), {}, artifact_id=snapshot.snapshot_id)
        with self.database.write() as session:
            activate_snapshot(session, Cipher.open(self.root), name, 0, [])
        return name

    def promote(self, cluster_id: str, min_confidence: float | None = None) -> None:
        row = PromotionRow(
            cluster_id=cluster_id, model="m", stage="live", share=1.0, slm="slm", forced=True, actor="a",
            created_at=datetime.now(UTC), min_confidence=min_confidence,
        )  # fmt: skip
        with self.database.write() as session:
            promotions.promote(session, row)

    def serving(self) -> Serving:
        return Serving(self.root / "serving.json", self.database, self.artifacts, Metrics())

    def lose_the_database(self) -> None:
        (self.root / "understudy.db").unlink()
        (self.root / "understudy.db").mkdir()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_nothing_learned_is_nothing_served(installation: Installation) -> None:
    serving = installation.serving()
    serving.refresh()
    assert (serving.snapshot, dict(serving.promotions)) == (None, {})


def test_a_snapshot_and_its_promotions_come_into_force_together(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot]
) -> None:
    serving = installation.serving()
    name = installation.activate(snapshots[0])
    installation.promote("c-1")
    before = serving.router
    serving.refresh()
    assert serving.snapshot is not None
    assert serving.snapshot.snapshot_id == name
    assert set(serving.router.promotions) == {"c-1"}
    assert serving.router is not before


@pytest.mark.parametrize("certified", [0.8, 0.0, None])
def test_the_confidence_that_a_certificate_asks_for_outlives_the_database(
    installation: Installation, certified: float | None
) -> None:
    installation.promote("c-1", certified)
    installation.serving().refresh()
    installation.lose_the_database()
    assert installation.serving().promotions["c-1"].min_confidence == certified


def test_a_router_is_exchanged_only_when_something_changed(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot]
) -> None:
    serving = installation.serving()
    installation.activate(snapshots[0])
    serving.refresh()
    router = serving.router
    serving.refresh()
    assert serving.router is router


def test_a_worker_starts_with_what_was_in_force_while_the_database_is_dead(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot]
) -> None:
    name = installation.activate(snapshots[0])
    installation.promote("c-1")
    installation.serving().refresh()
    installation.lose_the_database()
    serving = installation.serving()
    with pytest.raises(DatabaseDown):
        serving.refresh()
    assert serving.snapshot is not None
    assert serving.snapshot.snapshot_id == name
    assert set(serving.promotions) == {"c-1"}


def test_keys_are_known_without_a_database_and_revoked_ones_stay_revoked(installation: Installation) -> None:
    cipher = Cipher.open(installation.root)
    kept, _ = create_key(installation.database, cipher, KeyWish("kept", may_divert=False), "cli")
    gone, row = create_key(installation.database, cipher, KeyWish("gone"), "cli")
    installation.serving().refresh()
    revoke_key(installation.database, row.key_id, "cli")
    installation.serving().refresh()
    installation.lose_the_database()
    serving = installation.serving()
    assert not serving.key(kept).may_divert
    with pytest.raises(Unauthorized):
        serving.key(gone)
    assert kept not in (installation.root / "serving.json").read_text()


def test_where_keys_were_never_known_none_is_let_in_and_none_is_called_wrong(installation: Installation) -> None:
    installation.lose_the_database()
    with pytest.raises(ServiceUnavailable):
        installation.serving().key("us-key-x")


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest", "foreign key"])
def test_a_damaged_snapshot_leaves_the_old_one_in_force(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = snapshots
    assert old.snapshot_id != new.snapshot_id
    serving = installation.serving()
    installation.activate(old)
    serving.refresh()
    directory = installation.root / "artifacts" / installation.activate(new)
    victim = directory / ("manifest.json" if damage == "manifest" else "snapshot.json")
    if damage == "foreign key":
        shutil.rmtree(directory)
        foreign = ArtifactStore(installation.root / "artifacts", Cipher(b"o" * 32))
        foreign.put("snapshot", new.dump(), {}, artifact_id=new.snapshot_id)
    elif damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-10])
    installation.promote("c-1")
    capsys.readouterr()
    serving.refresh()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "snapshot.not_loaded" in line]
    assert new.snapshot_id in line
    assert "artifact_corrupt" in line
    assert serving.snapshot is not None
    assert serving.snapshot.snapshot_id == old.snapshot_id
    assert set(serving.promotions) == {"c-1"}  # a demotion must work all the same


def test_a_database_that_is_made_anew_takes_nothing_away_in_silence(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    name = installation.activate(snapshots[0])
    installation.promote("c-1")
    serving = installation.serving()
    serving.refresh()
    for file in installation.root.glob("understudy.db*"):
        file.unlink()
    installation.database.upgrade(Cipher.open(installation.root))
    for _ in range(2):
        serving.refresh()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "serving.state_lost" in line]
    assert name in line
    assert "c-1" in line
    assert serving.snapshot is None


def test_a_demotion_is_no_loss(installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    installation.promote("c-1")
    serving = installation.serving()
    serving.refresh()
    with installation.database.write() as session:
        promotions.demote(session, "c-1", "a")
    serving.refresh()
    assert not serving.promotions
    assert "serving.state_lost" not in capsys.readouterr().out


def test_a_worker_that_cant_load_the_snapshot_starts_with_the_one_before(
    installation: Installation,
    snapshots: tuple[Snapshot, Snapshot],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = (installation.activate(snapshot) for snapshot in snapshots)
    [known, *_] = snapshots[0].clusters
    installation.promote(known)
    installation.serving().refresh()
    for file in (installation.root / "artifacts" / new).iterdir():
        file.write_bytes(b"x")
    capsys.readouterr()
    serving = installation.serving()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "snapshot.fell_back" in line]
    assert old in line
    assert new in line
    assert serving.snapshot is not None
    assert serving.snapshot.snapshot_id == old
    assert set(serving.router.promotions) == {known}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "x"}', b"\xff"])
def test_a_damaged_cache_is_no_reason_not_to_start(installation: Installation, content: bytes) -> None:
    (installation.root / "serving.json").write_bytes(content)
    assert installation.serving().snapshot is None


def test_a_change_is_noticed_without_being_told(
    installation: Installation, snapshots: tuple[Snapshot, Snapshot]
) -> None:
    serving = installation.serving()
    serving.start()
    try:
        installation.activate(snapshots[0])
        wait_for(lambda: serving.snapshot is not None, 5)
    finally:
        serving.stop()

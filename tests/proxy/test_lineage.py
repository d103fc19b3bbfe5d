"""Tasks that were split or merged: said in words, and nothing that was proved of the old ones counts any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.lineage import changes_of, put_on_record
from proxy.proof import proof_of, subject_today
from proxy.settings import Settings, load_settings
from router.promotion import Stage
from router.snapshot import Lineage
from storage.cipher import Cipher
from storage.database import Database
from storage.models import PromotionRow
from storage.repositories.certificates import add_certificate
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.moves import list_moves
from storage.repositories.promotions import current_promotion, promote
from storage.repositories.registry import list_audit
from storage.repositories.state import serving_version
from tests.proxy.certificates import certificate_of

CIPHER = Cipher(bytes(32))
SPLIT = (Lineage("c-1", ("c-1",)), Lineage("c-9", ("c-1",)))


def words(*lineage: Lineage) -> list[str]:
    return [change.in_words for change in changes_of(lineage)]


def test_a_split_a_merger_and_an_end_are_said_in_words() -> None:
    assert words(*SPLIT) == ["c-1 was split into c-1 and c-9"]
    assert words(Lineage("c-1", ("c-1", "c-2")), Lineage(None, ("c-2",))) == ["c-1 and c-2 became one: c-1"]
    assert words(Lineage(None, ("c-3",))) == ["c-3 is no more"]
    assert words(Lineage("c-7", ())) == []


def test_only_who_lives_on_as_another_task_is_changed() -> None:
    assert [change.changed for change in changes_of(SPLIT)] == [("c-1",)]
    gone = changes_of((Lineage("c-8", ("c-1", "c-2")), Lineage(None, ("c-1",)), Lineage(None, ("c-2",))))
    assert [change.changed for change in gone] == [()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, data_dir=tmp_path, slm_url="main=http://127.0.0.1:9/v1")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """One task, `c-1`, of which `proved` and `candidate` are certified; `proved` is live."""
    database = Database(settings.database)
    database.upgrade(CIPHER)
    row = StoredCluster("c-1", "s", "triage", {"kind": "label"}, "You are", 3, 3, [])
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s", 3, [row])
        for model in ("proved", "candidate"):
            certificate = certificate_of(subject_today(session, CIPHER, "c-1", model, "main", None))
            kept = add_certificate(session, "c-1", model, certificate.issued_at, certificate.to_json())
            if model == "proved":
                promote(session, live(kept.certificate_id))
    yield database
    database.close()


def live(certificate_id: int | None) -> PromotionRow:
    return PromotionRow(
        cluster_id="c-1", model="proved", stage="live", share=1.0, slm="main", forced=certificate_id is None,
        actor="a", created_at=datetime.now(UTC), certificate_id=certificate_id, min_confidence=0.8,
    )  # fmt: skip


def missing(database: Database, settings: Settings, model: str) -> dict[str, str]:
    with database.read() as session:
        return proof_of(session, settings, subject_today(session, CIPHER, "c-1", model, "main", None)).missing


def test_a_split_task_loses_its_certificates_though_its_skeleton_stayed(database: Database, settings: Settings) -> None:
    assert missing(database, settings, "proved") == missing(database, settings, "candidate") == {}
    with database.write() as session:
        before = serving_version(session)
        put_on_record(session, changes_of(SPLIT), "learner")
    for model in ("proved", "candidate"):
        assert "task_changed" in missing(database, settings, model)["evidence_from"]
    with database.read() as session:
        current = current_promotion(session, "c-1")
        assert current is not None
        assert (current.model, current.stage, current.certificate_id) == ("proved", Stage.SHADOW, None)
        assert serving_version(session) > before
        moves = {move.model: move for move in list_moves(session, "c-1")}
        assert moves["proved"].reason == "c-1 was split into c-1 and c-9"
        entry = next(entry for entry in list_audit(session) if entry.action == "cluster.split")
    assert (entry.actor, entry.subject, entry.details["clusters"]) == ("learner", "c-1", ["c-1", "c-9"])
    assert entry.details["certificates_lost"] == ["candidate", "proved"]


def test_a_second_split_is_on_record_too(database: Database, settings: Settings) -> None:
    for _ in range(3):
        with database.write() as session:
            put_on_record(session, changes_of(SPLIT), "learner")
    assert missing(database, settings, "candidate")
    with database.read() as session:
        assert sum(entry.action == "cluster.split" for entry in list_audit(session)) == 3


def test_what_was_forced_goes_on_without_proof(database: Database) -> None:
    with database.write() as session:
        promote(session, live(None))
        put_on_record(session, changes_of(SPLIT), "learner")
    with database.read() as session:
        current = current_promotion(session, "c-1")
        assert current is not None
        assert current.stage == Stage.LIVE


def test_a_task_that_is_gone_takes_nothing_with_it(database: Database, settings: Settings) -> None:
    with database.write() as session:
        put_on_record(session, changes_of((Lineage(None, ("c-1",)),)), "learner")
    assert missing(database, settings, "proved") == {}

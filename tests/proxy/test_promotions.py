"""Promoting: what is checked, what is refused and in which words, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.errors import BadRequest, Conflict, NoSuchThing, Unprocessable
from proxy.promotions import Wish, demote_cluster, promote_cluster
from proxy.settings import Settings
from router.promotion import Promotion, Stage
from storage.cipher import Cipher
from storage.database import Database
from storage.models import ModelRow
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.promotions import current_promotions
from storage.repositories.registry import list_audit, register_model
from storage.repositories.state import serving_version
from tests.proxy.fake_vllm import FakeVllm


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


@pytest.fixture
def settings(fake: FakeVllm, tmp_path: Path) -> Settings:
    return Settings(slm_url={"gpu": fake.url}, data_dir=tmp_path)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Knows one task."""
    database = Database(settings.database)
    database.upgrade(Cipher.open(settings.data_dir))
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s-1", label="triage", contract={}, skeleton="", calls=60, conversations=60,
        examples=[],
    )  # fmt: skip
    with database.write() as session:
        activate_snapshot(session, Cipher(bytes(32)), "s-1", 60, [row])
    yield database
    database.close()


def forced(model: str = "tiny", stage: Stage = Stage.LIVE, **more: object) -> Wish:
    return Wish(model, stage, force=True, reason="a test", **more)  # type: ignore[arg-type]


def in_force(database: Database) -> list[tuple[str, str, float]]:
    with database.read() as session:
        return [(row.model, row.stage, row.share) for row in current_promotions(session)]


def test_a_promotion_is_in_force_audited_and_knows_the_models_context(database: Database, settings: Settings) -> None:
    with database.read() as session:
        before = serving_version(session)
    made = promote_cluster(database, settings, "c-1", forced(), "anna")
    assert made == Promotion("c-1", "tiny", Stage.LIVE, 1.0, "gpu", None, 1024, made.version)
    assert in_force(database) == [("tiny", "live", 1.0)]
    with database.read() as session:
        assert serving_version(session) > before
        [entry] = list_audit(session)
        assert (entry.actor, entry.action, entry.subject) == ("anna", "promotion.made", "c-1")
        assert entry.details["reason"] == "a test"


def test_the_next_promotion_takes_the_place_of_the_last_and_a_demotion_ends_it(
    database: Database, settings: Settings
) -> None:
    promote_cluster(database, settings, "c-1", forced(stage=Stage.CANARY, share=0.25), "anna")
    promote_cluster(database, settings, "c-1", forced(adapter="/adapters/triage", model="triage"), "anna")
    assert in_force(database) == [("triage", "live", 1.0)]
    assert demote_cluster(database, "c-1", "anna").model == "triage"
    assert in_force(database) == []
    with pytest.raises(NoSuchThing, match="c-1 has no current promotion"):
        demote_cluster(database, "c-1", "anna")
    with pytest.raises(NoSuchThing, match="there is no cluster nope"):
        demote_cluster(database, "nope", "anna")


@pytest.mark.parametrize(
    ("wish", "share"),
    [
        (Wish("tiny", Stage.SHADOW), 0.0),
        (Wish("tiny", Stage.SHADOW, share=0.7), 0.0),
        (forced(stage=Stage.CANARY), 0.1),
        (forced(stage=Stage.CANARY, share=0.5), 0.5),
        (forced(share=0.5), 1.0),
    ],
)
def test_each_stage_has_its_share(database: Database, settings: Settings, wish: Wish, share: float) -> None:
    assert promote_cluster(database, settings, "c-1", wish, "anna").share == share


def test_a_registered_model_brings_its_server_and_its_adapter(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    with database.write() as session:
        row = ModelRow(name="triage", slm="gpu", adapter="/adapters/triage", created_at=datetime.now(UTC))
        register_model(session, row)
    assert promote_cluster(database, settings, "c-1", forced("triage"), "anna").adapter == "/adapters/triage"
    assert fake.adapters == {"triage": "/adapters/triage"}


@pytest.mark.parametrize(
    ("cluster_id", "wish", "error", "words"),
    [
        ("c-2", forced(), NoSuchThing, "c-2"),
        ("c-2", Wish("tiny", Stage.LIVE), NoSuchThing, "c-2"),
        ("c-1", forced(stage=Stage.RETIRED), BadRequest, "use shadow, canary or live"),
        ("c-1", forced(stage=Stage.CANARY, share=1.5), BadRequest, "1.5 is not above 0 and at most 1"),
        ("c-1", forced(stage=Stage.CANARY, share=0.0), BadRequest, "0.0 is not above 0"),
        ("c-1", forced(stage=Stage.LIVE, share=7.0), BadRequest, "7.0 is not above 0 and at most 1"),
        ("c-1", Wish("tiny", Stage.LIVE, force=True), BadRequest, "force needs a reason"),
        ("c-1", Wish("tiny", Stage.LIVE, force=True, reason="  "), BadRequest, "force needs a reason"),
        ("c-1", Wish("tiny", Stage.LIVE), Conflict, "missing figures: n, failures, disagreement_bound"),
        ("c-1", Wish("tiny", Stage.CANARY), Conflict, "no certificate"),
        ("c-1", forced(slm="cpu"), NoSuchThing, "there is no SLM server 'cpu'; UNDERSTUDY_SLM_URL names gpu"),
        ("c-1", forced("nobody"), Unprocessable, "it has: tiny"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(
    database: Database, settings: Settings, cluster_id: str, wish: Wish, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        promote_cluster(database, settings, cluster_id, wish, "anna")
    assert in_force(database) == []
    with database.read() as session:
        assert list_audit(session) == []


def test_a_dead_server_is_a_conflict_and_leaves_the_old_promotion(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    promote_cluster(database, settings, "c-1", Wish("tiny", Stage.SHADOW), "anna")
    fake.die()
    with pytest.raises(Conflict, match="can't be reached"):
        promote_cluster(database, settings, "c-1", forced(), "anna")
    assert in_force(database) == [("tiny", "shadow", 0.0)]


def test_where_there_are_several_servers_one_must_be_named(database: Database, settings: Settings) -> None:
    two = settings.model_copy(update={"slm_url": settings.slm_url | {"cpu": "http://127.0.0.1:9/v1"}})
    with pytest.raises(BadRequest, match="one of gpu, cpu"):
        promote_cluster(database, two, "c-1", forced(), "anna")
    none = settings.model_copy(update={"slm_url": {}})
    with pytest.raises(Conflict, match="UNDERSTUDY_SLM_URL=name="):
        promote_cluster(database, none, "c-1", forced(), "anna")

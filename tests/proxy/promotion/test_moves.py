"""Promoting: what is checked, what is refused and in which words, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import BadRequest, Conflict, NoSuchThing, Unprocessable
from proxy.promotion.moves import Wish, demote_cluster, promote_cluster, return_to_shadow
from proxy.promotion.proof import subject_today
from proxy.settings import Settings
from router.promotion import Cause, Promotion, Stage
from storage.cipher import Cipher
from storage.database import Database
from storage.models import ModelRow, PromotionRow
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.certificates import add_certificate
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.moves import list_moves, newest_move
from storage.repositories.promotions import current_promotions
from storage.repositories.promotions import promote as put_in_force
from storage.repositories.registry import list_audit, register_model
from storage.repositories.state import serving_version
from tests.postgresql import PostgreSQL
from tests.proxy.certificates import certificate_of
from tests.proxy.fake_vllm import FakeVllm
from tests.proxy.slm.kept import keep_one
from tests.storage.conftest import make_record

CIPHER = Cipher(bytes(32))


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
    know_one_task(database, settings)
    yield database
    database.close()


@pytest.fixture
def on_postgresql(settings: Settings, postgresql: PostgreSQL) -> Iterator[Database]:
    """The same on PostgreSQL, where writers do not wait for each other by themselves."""
    database = Database(postgresql.new_database())
    know_one_task(database, settings)
    yield database
    database.close()


def know_one_task(database: Database, settings: Settings) -> None:
    database.upgrade(Cipher.open(settings.data_dir))
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s-1", label="triage", contract={}, skeleton="", calls=60, conversations=60,
        examples=[],
    )  # fmt: skip
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s-1", 60, [row])


def forced(model: str = "tiny", stage: Stage = Stage.LIVE, **more: object) -> Wish:
    return Wish(model, stage, force=True, reason="a test", **more)  # type: ignore[arg-type]


def certify(database: Database, model: str = "tiny", adapter: str | None = None, **changes: Any) -> int:
    """Keep a certificate that is valid today, but for `changes`; returns its number."""
    with database.write() as session:
        certificate = certificate_of(subject_today(session, CIPHER, "c-1", model, "gpu", adapter), **changes)
        row = add_certificate(session, "c-1", model, certificate.issued_at, certificate.to_json())
        return row.certificate_id


def promote(database: Database, settings: Settings, wish: Wish) -> Promotion:
    return promote_cluster(database, CIPHER, settings, "c-1", wish, "anna")


def moves(database: Database) -> list[tuple[str, str, str, str]]:
    """All moves on the task, oldest first."""
    with database.read() as session:
        found = [(row.model, row.from_stage, row.to_stage, row.cause) for row in list_moves(session, "c-1")]
    return found[::-1]


def in_force(database: Database) -> list[tuple[str, str, float]]:
    with database.read() as session:
        return [(row.model, row.stage, row.share) for row in current_promotions(session)]


def test_a_promotion_is_in_force_audited_and_knows_the_models_context(database: Database, settings: Settings) -> None:
    with database.read() as session:
        before = serving_version(session)
    made = promote_cluster(database, CIPHER, settings, "c-1", forced(), "anna")
    assert made == Promotion("c-1", "tiny", Stage.LIVE, 1.0, "gpu", None, 1024, made.version)
    assert in_force(database) == [("tiny", "live", 1.0)]
    with database.read() as session:
        assert serving_version(session) > before
        [entry] = list_audit(session)
        assert (entry.actor, entry.action, entry.subject) == ("anna", "promotion.made", "c-1")
        assert entry.details["reason"] == "a test"


def test_a_wish_that_rests_on_what_is_no_longer_so_stands_back(database: Database, settings: Settings) -> None:
    certify(database)
    with database.read() as session:
        seen = newest_move(session, "c-1")
    promote(database, settings, Wish("tiny", Stage.SHADOW))
    demote_cluster(database, "c-1", "anna")
    with pytest.raises(Conflict, match="meanwhile"):
        promote_cluster(
            database, CIPHER, settings, "c-1", Wish("tiny", Stage.SHADOW), "autopilot", Cause.EVIDENCE, seen
        )
    assert in_force(database) == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_an_adapter_that_was_trained_here_is_restored_before_it_is_loaded(
    database: Database, settings: Settings, fake: FakeVllm, damage: str
) -> None:
    kept = keep_one(settings, CIPHER)
    with database.write() as session:
        register_model(session, kept.row())
    kept.damage(damage)
    promote(database, settings, forced("triage"))
    assert kept.is_whole()
    assert fake.adapters == {"triage": str(kept.place)}
    assert in_force(database) == [("triage", "live", 1.0)]


def test_an_adapter_that_is_damaged_for_good_is_not_promoted(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    kept = keep_one(settings, CIPHER)
    with database.write() as session:
        register_model(session, kept.row())
    kept.damage("changed")
    (kept.artifact / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(Conflict, match=r"can't be restored: adapter-.* does not have the checksum"):
        promote(database, settings, forced("triage"))
    assert (fake.loaded, in_force(database), moves(database)) == ([], [], [])


def test_force_is_none_where_there_is_proof(database: Database, settings: Settings) -> None:
    promote(database, settings, forced())
    certify(database)
    promote(database, settings, forced(stage=Stage.CANARY))
    with database.read() as session:
        [row] = current_promotions(session)
        assert (row.forced, row.certificate_id is not None) == (False, True)
    assert [cause for *_, cause in moves(database)] == ["forced", "asked"]


def test_the_next_promotion_takes_the_place_of_the_last_and_a_demotion_ends_it(
    database: Database, settings: Settings
) -> None:
    promote_cluster(database, CIPHER, settings, "c-1", forced(stage=Stage.CANARY, share=0.25), "anna")
    promote_cluster(database, CIPHER, settings, "c-1", forced(adapter="/adapters/triage", model="triage"), "anna")
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
    assert promote_cluster(database, CIPHER, settings, "c-1", wish, "anna").share == share


def test_a_registered_model_brings_its_server_and_its_adapter(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    with database.write() as session:
        row = ModelRow(name="triage", slm="gpu", adapter="/adapters/triage", created_at=datetime.now(UTC))
        register_model(session, row)
    assert promote_cluster(database, CIPHER, settings, "c-1", forced("triage"), "anna").adapter == "/adapters/triage"
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
        promote_cluster(database, CIPHER, settings, cluster_id, wish, "anna")
    assert in_force(database) == []
    assert moves(database) == []
    with database.read() as session:
        assert list_audit(session) == []


def test_a_dead_server_is_a_conflict_and_leaves_the_old_promotion(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    promote_cluster(database, CIPHER, settings, "c-1", Wish("tiny", Stage.SHADOW), "anna")
    fake.die()
    with pytest.raises(Conflict, match="can't be reached"):
        promote_cluster(database, CIPHER, settings, "c-1", forced(), "anna")
    assert in_force(database) == [("tiny", "shadow", 0.0)]


def test_where_there_are_several_servers_one_must_be_named(database: Database, settings: Settings) -> None:
    two = settings.model_copy(update={"slm_url": settings.slm_url | {"cpu": "http://127.0.0.1:9/v1"}})
    with pytest.raises(BadRequest, match="one of gpu, cpu"):
        promote_cluster(database, CIPHER, two, "c-1", forced(), "anna")
    none = settings.model_copy(update={"slm_url": {}})
    with pytest.raises(Conflict, match="UNDERSTUDY_SLM_URL=name="):
        promote_cluster(database, CIPHER, none, "c-1", forced(), "anna")


@pytest.mark.parametrize("stage", [Stage.CANARY, Stage.LIVE])
def test_a_valid_certificate_promotes_without_force_and_sets_the_confidence(
    database: Database, settings: Settings, stage: Stage
) -> None:
    number = certify(database)
    assert promote(database, settings, Wish("tiny", stage)).min_confidence == 0.8
    with database.read() as session:
        [row] = current_promotions(session)
        assert (row.certificate_id, row.min_confidence, row.forced) == (number, 0.8, False)
        [move] = list_moves(session, "c-1")
        assert (move.actor, move.cause, move.to_stage) == ("anna", "asked", stage.value)
        assert (move.figures["certificate_id"], move.figures["n"], move.figures["failures"]) == (number, 70, 0)
        assert "missing" not in move.figures


def test_a_certificate_for_all_answers_still_asks_for_a_confidence(database: Database, settings: Settings) -> None:
    certify(database, threshold=None)
    assert promote(database, settings, Wish("tiny", Stage.LIVE)).min_confidence == 0.0


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disagreement_bound": 0.0582, "n": 50}, "disagreement_bound: 0.0582, must be at most 0.05; n: 50 conv"),
        ({"expires_at": LONG_AGO}, "expires_at: expired at 2020-01-01"),
        ({"delta": 0.1}, r"confidence: 0.9, must be at least 0\.95"),
        ({"calls_failed": 9}, "calls_failed"),
        ({"threshold": -0.3}, "threshold: -0.3, must be a mean token probability"),
    ],
)
def test_an_invalid_certificate_is_refused_with_each_figure(
    database: Database, settings: Settings, changes: dict[str, Any], words: str
) -> None:
    certify(database, **changes)
    for stage in (Stage.CANARY, Stage.LIVE):
        with pytest.raises(Conflict, match=f"no valid certificate .* missing figures: .*{words}"):
            promote(database, settings, Wish("tiny", stage))
    assert promote(database, settings, forced()).min_confidence is None
    with database.read() as session:
        assert list_moves(session, "c-1")[0].figures["missing"]


def test_a_certificate_that_cant_be_read_counts_as_none(database: Database, settings: Settings) -> None:
    certify(database)
    with database.write() as session:
        add_certificate(session, "c-1", "tiny", datetime.now(UTC), {"n": 70})
    with pytest.raises(Conflict, match="missing figures: n, failures"):
        promote(database, settings, Wish("tiny", Stage.LIVE))


def relearn(database: Database, **changes: Any) -> None:
    """The same task as the next snapshot has it."""
    row = StoredCluster(**{
        "cluster_id": "c-1", "snapshot_id": "s-2", "label": "triage", "contract": {}, "skeleton": "", "calls": 90,
        "conversations": 90, "examples": [], **changes,
    })  # fmt: skip
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s-2", 90, [row])


def test_a_certificate_survives_more_calls_of_the_same_task(database: Database, settings: Settings) -> None:
    certify(database)
    relearn(database, contract={"support": 90}, label="triage desk")
    assert promote(database, settings, Wish("tiny", Stage.LIVE)).stage is Stage.LIVE


@pytest.mark.parametrize(
    ("changes", "what"), [({"contract": {"kind": "label"}}, "contract"), ({"skeleton": "You are"}, "skeleton")]
)
def test_a_certificate_ends_when_the_task_becomes_another(
    database: Database, settings: Settings, changes: dict[str, Any], what: str
) -> None:
    certify(database)
    relearn(database, **changes)
    with pytest.raises(Conflict, match=f"missing figures: {what}: certified for '"):
        promote(database, settings, Wish("tiny", Stage.LIVE))


def test_a_certificate_ends_when_the_llm_calls_itself_something_else(database: Database, settings: Settings) -> None:
    def answer(model: str) -> None:
        with database.write() as session:
            call = make_record(cluster_id="c-1"), CallFacts(model_reported=model)
            insert_calls(session, Cipher.open(settings.data_dir), [call])

    answer("gpt-4o-2024-08-06")
    certify(database)
    answer("gpt-4o-2024-08-06")
    promote(database, settings, Wish("tiny", Stage.CANARY))
    answer("gpt-4o-2026-11-01")
    with pytest.raises(Conflict, match="teacher: certified for 'gpt-4o-2024-08-06', it is now"):
        promote(database, settings, Wish("tiny", Stage.LIVE))


def test_a_certificate_ends_when_other_weights_come_under_the_name(database: Database, settings: Settings) -> None:
    def register(weights: str) -> None:
        with database.write() as session:
            row = ModelRow(
                name="t", slm="gpu", adapter="/adapters/t", weights=weights, created_at=datetime.now(UTC)
            )  # fmt: skip
            register_model(session, row)

    register("sha-1")
    certify(database, "t", "/adapters/t")
    promote(database, settings, Wish("t", Stage.CANARY))
    with pytest.raises(Conflict, match="weights: certified for 'sha-1'"):
        promote(database, settings, Wish("t", Stage.LIVE, adapter="/adapters/other"))
    register("sha-2")
    with pytest.raises(Conflict, match="weights: certified for 'sha-1', it is now 'sha-2'"):
        promote(database, settings, Wish("t", Stage.LIVE))


@pytest.mark.parametrize("cause", [Cause.BOUND_BROKEN, Cause.DRIFT, Cause.TASK_CHANGED])
def test_what_the_world_disproved_needs_evidence_from_afterwards(
    database: Database, settings: Settings, cause: Cause
) -> None:
    before = certify(database)
    began = datetime.now(UTC)
    promote(database, settings, Wish("tiny", Stage.LIVE))
    demote_cluster(database, "c-1", "audit", cause, "the lower bound passed 0.05", {"lower_bound": 0.07})
    certify(database, evidence_from=began)
    with pytest.raises(Conflict, match=f"evidence_from: .* must be after .*{cause.value}"):
        promote(database, settings, Wish("tiny", Stage.LIVE))
    assert certify(database) > before
    promote(database, settings, Wish("tiny", Stage.LIVE))


def test_a_failing_slm_keeps_its_certificate(database: Database, settings: Settings) -> None:
    certify(database)
    promote(database, settings, Wish("tiny", Stage.LIVE))
    demote_cluster(database, "c-1", "audit", Cause.SLM_FAILING)
    assert promote(database, settings, Wish("tiny", Stage.LIVE)).stage is Stage.LIVE


def test_every_move_of_a_life_is_a_row(database: Database, settings: Settings) -> None:
    promote(database, settings, Wish("tiny", Stage.SHADOW))
    promote(database, settings, forced(stage=Stage.CANARY, share=0.2))
    promote(database, settings, forced("triage", adapter="/adapters/triage"))
    demote_cluster(database, "c-1", "audit", Cause.DRIFT, "the payloads are others", {"p_value": 1e-6})
    promote(database, settings, Wish("tiny", Stage.SHADOW))
    assert moves(database) == [
        ("tiny", "candidate", "shadow", "asked"),
        ("tiny", "shadow", "canary", "forced"),
        ("tiny", "canary", "retired", "replaced"),
        ("triage", "candidate", "live", "forced"),
        ("triage", "live", "retired", "drift"),
        ("tiny", "retired", "candidate", "asked"),
        ("tiny", "candidate", "shadow", "asked"),
    ]
    with database.read() as session:
        demotion = list_moves(session, "c-1")[2]
        assert (demotion.actor, demotion.reason, demotion.figures) == (
            "audit", "the payloads are others", {"p_value": 1e-6},
        )  # fmt: skip


def test_a_promotion_from_before_there_were_moves_goes_on_from_its_stage(
    database: Database, settings: Settings
) -> None:
    with database.write() as session:
        put_in_force(session, PromotionRow(
            cluster_id="c-1", model="tiny", stage="canary", share=0.5, slm="gpu", forced=True, reason="old",
            actor="admin", created_at=LONG_AGO,
        ))  # fmt: skip
    promote(database, settings, forced())
    assert moves(database) == [("tiny", "canary", "live", "forced")]


def test_an_slm_returns_to_the_shadow_while_its_server_is_dead(
    database: Database, settings: Settings, fake: FakeVllm
) -> None:
    certify(database)
    live = promote(database, settings, Wish("tiny", Stage.LIVE))
    fake.die()
    shadow = return_to_shadow(database, "c-1", "watch", Cause.UNPROVED, "expired", {"expires_at": "now"}, live.version)
    assert (shadow.stage, shadow.share, shadow.model, shadow.min_confidence) == (Stage.SHADOW, 0.0, "tiny", None)
    assert in_force(database) == [("tiny", "shadow", 0.0)]
    assert moves(database)[-1] == ("tiny", "live", "shadow", "unproved")


def test_what_is_meant_for_one_promotion_does_not_hit_the_next(database: Database, settings: Settings) -> None:
    first = promote(database, settings, forced())
    promote(database, settings, forced(stage=Stage.CANARY))
    with pytest.raises(NoSuchThing, match=f"promotion {first.version} of cluster c-1 is no longer in force"):
        demote_cluster(database, "c-1", "watch", Cause.DRIFT, version=first.version)
    with pytest.raises(NoSuchThing, match="no longer in force"):
        return_to_shadow(database, "c-1", "watch", Cause.UNPROVED, "", {}, first.version)
    assert in_force(database) == [("tiny", "canary", 0.1)]


@pytest.mark.postgresql
def test_promotions_at_once_are_one_after_the_other(on_postgresql: Database, settings: Settings) -> None:
    """Each step begins where the one before it ended, whoever made it."""
    stages = [Stage.SHADOW, Stage.CANARY, Stage.LIVE] * 4
    promote(on_postgresql, settings, forced())

    def change(stage: Stage) -> None:
        with suppress(NoSuchThing):
            if stage is Stage.SHADOW:
                demote_cluster(on_postgresql, "c-1", "bert")
            else:
                promote(on_postgresql, settings, forced(stage=stage))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, stages))
    made = moves(on_postgresql)
    assert all(before[2] == after[1] for before, after in pairwise(made))

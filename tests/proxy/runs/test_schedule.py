"""When runs begin by themselves."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.money.economics import economics_of
from proxy.runs.learner import learn_if_due, train_if_due
from proxy.runs.queue import RunKind, Runs, RunStatus, RunWish
from proxy.runs.schedule import LastTry, Learnable, Trainable, is_learning_due, task_to_train
from proxy.runs.wanting import trainable
from proxy.settings import load_settings
from router.progress import Autopilot
from storage.cipher import Cipher
from storage.database import Database
from storage.models import StageMoveRow
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.moves import add_move
from tests.storage.conftest import make_record

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CIPHER = Cipher(bytes(32))


@pytest.mark.parametrize(
    ("new", "learned", "hours_ago", "every", "due"),
    [
        (0, None, 30, 24, False),  # nothing to learn from
        (5, None, 1, 24, False),
        (5, None, 24, 24, True),
        (1000, None, 1, 24, True),  # enough for a first look
        (199, 1000, 30, 24, False),
        (200, 1000, 30, 24, True),  # a fifth
        (200, 1000, 23, 24, False),
        (999, 100_000, 30, 24, False),
        (1000, 100_000, 30, 24, True),
        (10_000, 1000, 1000, 0, False),  # switched off
        (-50, 1000, 1000, 24, False),  # the clean-up took more than came
    ],
)
def test_the_log_is_learned_again_when_it_grew(
    new: int, learned: int | None, hours_ago: float, every: float, due: bool
) -> None:
    known = Learnable(new, learned, NOW - timedelta(hours=hours_ago))
    assert is_learning_due(known, every, NOW) is due


def test_nothing_is_due_before_the_first_call() -> None:
    assert not is_learning_due(Learnable(0, None, None), 24, NOW)


def test_the_schedule_asks_once_and_not_again_until_the_log_grew(tmp_path: Path) -> None:
    settings = load_settings({}, data_dir=tmp_path)
    database, runs = Database(settings.database), Runs(settings)
    database.upgrade(CIPHER)
    now = datetime.now(UTC)
    learn_if_due(settings, database, runs, now)
    assert runs.list_runs() == []
    arrived = int((now - timedelta(hours=25)).timestamp() * 1e9)
    with database.write() as session:
        insert_calls(session, CIPHER, [(make_record(arrived_at_ns=arrived), CallFacts()) for _ in range(10)])
    for _ in range(2):
        learn_if_due(settings, database, runs, now)
    [asked] = runs.list_runs()
    assert (asked.wish.kind, asked.asked_by) == (RunKind.LEARN, "schedule")
    runs.cancel(asked.id)
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s", 10, [])
    learn_if_due(settings, database, runs, now + timedelta(hours=30))
    assert len(runs.list_runs()) == 1
    late = int((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1e9)
    with database.write() as session:
        insert_calls(session, CIPHER, [(make_record(arrived_at_ns=late), CallFacts()) for _ in range(2)])
    learn_if_due(settings, database, runs, now + timedelta(hours=30))
    assert len(runs.list_runs()) == 2
    runs.close()


def test_a_failed_learning_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    settings = load_settings({}, data_dir=tmp_path)
    database, runs = Database(settings.database), Runs(settings)
    database.upgrade(CIPHER)
    now = datetime.now(UTC)
    arrived = int((now - timedelta(hours=25)).timestamp() * 1e9)
    with database.write() as session:
        insert_calls(session, CIPHER, [(make_record(arrived_at_ns=arrived), CallFacts()) for _ in range(10)])
    learn_if_due(settings, database, runs, now)
    with sqlite3.connect(tmp_path / "runs.sqlite") as kept:  # as a learner leaves it
        kept.execute("UPDATE workflow_status SET status = 'ERROR', completed_at = 0, deduplication_id = NULL")
    assert [run.status for run in runs.list_runs()] == [RunStatus.FAILED]
    learn_if_due(settings, database, runs, now + timedelta(hours=23))
    assert len(runs.list_runs()) == 1
    learn_if_due(settings, database, runs, now + timedelta(hours=25))
    assert len(runs.list_runs()) == 2
    runs.close()


def wanting(cluster_id: str = "c-1", **changes: Any) -> Trainable:
    known: dict[str, Any] = {
        "conversations": 300, "calls_per_month": 1e4, "has_slm": False, "last_try": None, "pays": True,
    }  # fmt: skip
    return Trainable(cluster_id, **known | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"conversations": 299},
        {"has_slm": True},
        {"last_try": LastTry(had=300, came=299, llm_changed=False)},
        {"last_try": LastTry(had=5000, came=4999, llm_changed=False)},
        {"last_try": LastTry(had=100, came=299, llm_changed=False)},
        {"last_try": LastTry(had=0, came=299, llm_changed=True)},
        {"pays": False},
        {"pays": None},
        {"can_be_proved": False},
    ],
)
def test_no_slm_is_trained_where_it_is_not_wanted(changes: dict[str, Any]) -> None:
    assert task_to_train([wanting(**changes)]) is None


@pytest.mark.parametrize(
    "last_try",
    [
        LastTry(had=300, came=300, llm_changed=False),
        LastTry(had=5000, came=5000, llm_changed=False),
        LastTry(had=0, came=300, llm_changed=True),
    ],
)
def test_another_try_takes_as_much_again_or_another_llm(last_try: LastTry) -> None:
    task = wanting(last_try=last_try)
    assert task_to_train([task]) is task


def test_the_autopilot_trains_once_for_a_task_that_pays_and_again_from_twice_as_much(tmp_path: Path) -> None:
    settings = load_settings({}, data_dir=tmp_path, autopilot="on", slm_url="main=http://127.0.0.1:9/v1")
    database, runs = Database(settings.database), Runs(settings)
    database.upgrade(CIPHER)
    rows = [StoredCluster(name, "s", name, {}, "", size, size, []) for name, size in (("c-1", 299), ("c-2", 300))]
    dear = CallFacts(model_requested="gpt-4o", cost_usd=0.01)
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s", 600, rows)
        for cluster in ("c-1", "c-2"):
            insert_calls(session, CIPHER, [(make_record(cluster_id=cluster), dear) for _ in range(10)])
    train_if_due(settings.model_copy(update={"autopilot": Autopilot.PROPOSE}), database, CIPHER, runs)
    assert runs.list_runs() == []
    train_if_due(settings, database, CIPHER, runs)
    [asked] = runs.list_runs()
    assert (asked.wish, asked.asked_by) == (RunWish(RunKind.TRAIN, "c-2"), "schedule")
    runs.cancel(asked.id)
    train_if_due(settings, database, CIPHER, runs)
    assert len(runs.list_runs()) == 1  # it was tried
    for count, tries in ((299, 1), (1, 2)):
        new = [make_record(cluster_id="c-2", arrived_at_ns=time.time_ns()) for _ in range(count)]
        with database.write() as session:
            insert_calls(session, CIPHER, [(record, dear) for record in new])
        train_if_due(settings, database, CIPHER, runs)
        assert [run.wish.cluster for run in runs.list_runs()] == ["c-2"] * tries
    runs.close()


@pytest.mark.parametrize(("tried", "expected"), [(-1, LastTry(0, 3, True)), (3, LastTry(1, 2, False))])
def test_what_the_llm_said_before_it_changed_is_nothing_to_learn_from_again(
    tmp_path: Path, tried: int, expected: LastTry
) -> None:
    """Five calls an hour apart; the LLM changed behind the second, and somebody tried before or after that."""
    settings = load_settings({}, data_dir=tmp_path, slm_url="main=http://127.0.0.1:9/v1")
    database = Database(settings.database)
    database.upgrade(CIPHER)
    task = StoredCluster("c-1", "s", "c-1", {}, "", 5, 5, [])
    hours = [NOW + timedelta(hours=number) for number in range(5)]
    broken = StageMoveRow(
        cluster_id="c-1", model="m", from_stage="live", to_stage="retired", at=NOW + timedelta(hours=1.5),
        actor="watch", cause="bound_broken", figures={"certificate_id": 1},
    )  # fmt: skip
    with database.write() as session:
        activate_snapshot(session, CIPHER, "s", 5, [task])
        calls = [make_record(cluster_id="c-1", arrived_at_ns=int(at.timestamp() * 1e9)) for at in hours]
        insert_calls(session, CIPHER, [(record, CallFacts(cost_usd=1.0)) for record in calls])
        add_move(session, broken)
    with database.read() as session:
        money = economics_of(session, settings)["c-1"]
        tried_at = NOW + timedelta(hours=tried - 0.5)
        assert trainable(session, CIPHER, settings, task, money, tried_at).last_try == expected
    database.close()


def test_the_busiest_task_that_pays_is_trained_for_first() -> None:
    tasks = [wanting("c-1"), wanting("c-2", calls_per_month=2e4), wanting("c-3", calls_per_month=3e4, pays=None)]
    assert task_to_train(tasks) == tasks[1]
    assert task_to_train([]) is None

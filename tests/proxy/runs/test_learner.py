"""Runs survive what kills their learner, and end clearly where they can't go on. Real learners, real signals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from proxy.errors import Conflict, NoSuchThing
from proxy.runs.learner import LOST_SECONDS, LostRuns, Progress
from proxy.runs.queue import Run, RunKind, Runs, RunStatus, RunWish
from proxy.settings import load_settings
from storage.cipher import Cipher
from storage.errors import DatabaseDown
from tests import conftest
from tests.conftest import environment_with
from tests.postgresql import PostgreSQL

HOLD = {"hold": True}
# What is learned has the lowest priority, and the machine may be busy.
PATIENCE_SECONDS = 120.0


def wait_for(true: Callable[[], object]) -> None:
    conftest.wait_for(true, PATIENCE_SECONDS)


class Learner:
    """A learner whose stages a test holds the strings of; see `scripted_learner.py`."""

    def __init__(self, data_dir: Path, database_url: str | None = None, **settings: str) -> None:
        data_dir.mkdir(exist_ok=True)
        self._settings = settings
        self.data_dir = data_dir
        self.settings = load_settings({}, data_dir=data_dir, database_url=database_url)
        Cipher.open(data_dir)
        self.runs = Runs(self.settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.errors = data_dir / "errors.log"

    def start(self) -> None:
        given = {"database_url": self.settings.database_url} if self.settings.database_url else {}
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.proxy.scripted_learner", str(self.data_dir)],
                env=environment_with(self.data_dir, **given, **self._settings),
                stderr=errors,
            )

    def kill(self) -> None:
        """SIGKILL, to the learner alone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, cluster: str = "c-1", **script: Any) -> str:
        """Ask for a run whose stages do what `script` says; returns its id."""
        return self.runs.enqueue(RunWish(RunKind.TRAIN, cluster, model=json.dumps(script)), "test")[0].id

    def go(self, stage: str) -> None:
        """Let the runs go on that are held at a stage."""
        (self.data_dir / f"go-{stage}").touch()

    def worked(self) -> list[str]:
        """The stages that were begun, in order, once for each time."""
        return [line.split()[0] for line in self._log()]

    def worker(self) -> psutil.Process:
        """The process of the stage that was begun last."""
        return psutil.Process(int(self._log()[-1].split()[2]))

    def _log(self) -> list[str]:
        path = self.data_dir / "stages.log"
        return path.read_text().splitlines() if path.exists() else []

    def end_of(self, run_id: str) -> Run:
        """Wait for a run to end."""
        wait_for(lambda: self.runs.get(run_id).status.has_ended)
        return self.runs.get(run_id)


@contextmanager
def learning(data_dir: Path, database_url: str | None = None, **settings: str) -> Iterator[Learner]:
    learner = Learner(data_dir, database_url, **settings)
    learner.start()
    try:
        yield learner
    finally:
        learner.kill()
        learner.runs.close()


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    with learning(tmp_path / "data") as started:
        yield started


def test_a_run_goes_through_its_stages_and_ends_with_its_record(learner: Learner) -> None:
    run_id = learner.ask(first={"lines": ["epoch 1: 50%", "epoch 2"]})
    run = learner.end_of(run_id)
    assert (run.status, run.asked_by, run.wish.cluster) == (RunStatus.DONE, "test", "c-1")
    assert run.record == "first is done; second is done"
    assert run.figures is not None
    assert run.figures["second"]["before"] == ["first"]
    assert [(stage.name, stage.error) for stage in run.stages] == [("first", None), ("second", None)]
    assert run.started_at is not None
    assert run.ended_at is not None
    assert [line.split(" ", 1)[1] for line in run.lines] == ["first", "epoch 1: 50%", "epoch 2", "second"]
    assert learner.runs.list_runs()[0].record == run.record
    assert (learner.data_dir / "runs.sqlite").stat().st_mode & 0o077 == 0


def test_a_learner_killed_in_a_stage_begins_again_with_that_stage(learner: Learner) -> None:
    run_id = learner.ask(second=HOLD)
    wait_for(lambda: learner.worked() == ["first", "second"])
    orphan = learner.worker()
    learner.kill()
    wait_for(lambda: not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE)
    assert learner.runs.get(run_id).status is RunStatus.RUNNING
    learner.go("second")
    learner.start()
    assert learner.end_of(run_id).record == "first is done; second is done"
    assert learner.worked() == ["first", "second", "second"]
    assert any("its learner was interrupted" in line for line in learner.runs.get(run_id).lines)


def test_a_learner_killed_between_stages_does_none_of_them_twice(learner: Learner) -> None:
    run_id = learner.ask(first=HOLD)
    wait_for(lambda: learner.worked() == ["first"])
    learner.go("first")
    wait_for(lambda: learner.runs.get(run_id).stages)  # the second's process is only being started
    learner.kill()
    assert learner.worked() == ["first"]
    learner.start()
    assert learner.end_of(run_id).status is RunStatus.DONE
    assert learner.worked() == ["first", "second"]


def test_a_cancelled_run_is_killed_and_the_next_one_begins(learner: Learner) -> None:
    run_id, waiting, next_id = learner.ask(first=HOLD), learner.ask("c-2"), learner.ask("c-3")
    wait_for(lambda: learner.worked() == ["first"])
    worker = learner.worker()
    assert learner.runs.get(waiting).status is RunStatus.QUEUED  # one at a time
    learner.runs.cancel(waiting)
    assert learner.runs.cancel(run_id).status is RunStatus.CANCELLED
    worker.wait(10)
    assert learner.end_of(next_id).status is RunStatus.DONE
    ended = learner.runs.get(run_id)
    assert (ended.status, ended.record) == (RunStatus.CANCELLED, None)
    assert learner.worked() == ["first", "first", "second"]
    with pytest.raises(Conflict, match="cancelled already"):
        learner.runs.cancel(run_id)


def test_as_many_runs_are_done_at_a_time_as_the_settings_allow_and_a_kill_interrupts_them_all(tmp_path: Path) -> None:
    with learning(tmp_path / "data", runs_at_once="2") as learner:
        asked = [learner.ask(f"c-{number}", first=HOLD) for number in range(3)]
        wait_for(lambda: len(learner.worked()) == 2)
        states = sorted(learner.runs.get(run_id).status for run_id in asked)
        assert states == [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.RUNNING]
        learner.kill()
        learner.start()
        wait_for(lambda: len(learner.worked()) == 4)
        learner.go("first")
        assert {learner.end_of(run_id).status for run_id in asked} == {RunStatus.DONE}
        assert learner.worked().count("second") == 3


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"die": "SIGKILL"}, "the stage first was killed (signal 9, SIGKILL): out of memory?"),
        ({"die": "SIGSEGV"}, "the stage first was killed (signal 11, SIGSEGV)"),
        ({"fail": "too few samples:\n3"}, "too few samples: 3"),
    ],
)
def test_a_stage_that_ends_badly_ends_the_run_in_one_line(learner: Learner, script: Any, error: str) -> None:
    run = learner.end_of(learner.ask(first=script))
    assert (run.status, run.error) == (RunStatus.FAILED, error)
    assert [(stage.name, stage.error) for stage in run.stages] == [("first", error)]
    assert learner.worked() == ["first"]
    assert "Traceback" not in learner.errors.read_text()


def test_a_database_that_goes_away_holds_a_stage_up_and_no_more(learner: Learner) -> None:
    run_id = learner.ask(second={"away": True})
    wait_for(lambda: "waiting for the database" in (learner.runs.get(run_id).progress or {}).get("text", ""))
    (learner.data_dir / "database-is-back").touch()
    assert learner.end_of(run_id).status is RunStatus.DONE
    assert learner.worked()[0:2] == ["first", "second"]
    assert "first" not in learner.worked()[1:]


def test_the_same_wish_is_the_same_run_until_it_has_ended(tmp_path: Path) -> None:
    log = Runs(load_settings({}, data_dir=tmp_path))
    wish = RunWish(RunKind.EVALUATE, "c-1", model="m")
    run, is_new = log.enqueue(wish, "a")
    assert is_new
    assert log.enqueue(wish, "b") == (run, False)
    assert log.enqueue(RunWish(RunKind.EVALUATE, "c-1", model="other"), "b")[1]
    log.cancel(run.id)
    again, is_new = log.enqueue(wish, "b")
    assert is_new
    assert again.id != run.id
    log.close()


def test_pages_hold_every_run_once_newest_first(tmp_path: Path) -> None:
    log = Runs(load_settings({}, data_dir=tmp_path))
    asked = [log.enqueue(RunWish(RunKind.TRAIN, f"c-{number}"), "test")[0].id for number in range(7)]
    found: list[str] = []
    while page := [run.id for run in log.list_runs(before=found[-1] if found else None, limit=3)]:
        found += page
    assert found == asked[::-1]
    with pytest.raises(NoSuchThing):
        log.list_runs(before="01a1fdf0-8985-7627-8b40-77b21180bb85")
    log.close()


def test_old_runs_are_forgotten_when_they_have_ended(tmp_path: Path) -> None:
    log = Runs(load_settings({}, data_dir=tmp_path))
    ended, queued = (log.enqueue(RunWish(RunKind.TRAIN, name), "test")[0].id for name in ("c-1", "c-2"))
    log.cancel(ended)
    log.forget_before(datetime(2020, 1, 1, tzinfo=UTC))
    assert len(log.list_runs()) == 2
    log.forget_before(datetime(2100, 1, 1, tzinfo=UTC))
    assert [run.id for run in log.list_runs()] == [queued]
    log.close()


def test_a_second_learner_on_a_data_directory_is_refused_in_one_line(learner: Learner) -> None:
    wait_for(lambda: "learner.started" in learner.errors.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", "learner"],
        env=environment_with(learner.data_dir),
        capture_output=True,
        text=True,
        check=False,
    )
    assert learner.process is not None
    assert done.returncode == 1
    assert f"a learner (process {learner.process.pid}) works on" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.postgresql
def test_learners_share_a_queue_take_over_from_the_dead_and_outlast_the_database(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    one = Learner(tmp_path / "one", url)
    other = Learner(tmp_path / "other", url)
    shutil.copy(one.data_dir / "encryption.key", other.data_dir / "encryption.key")
    with ExitStack() as stack:
        for learner in (one, other):
            stack.callback(learner.runs.close)
            stack.callback(learner.kill)
            learner.start()
        ids = [one.ask(cluster, second=HOLD) for cluster in ("c-1", "c-2")]
        wait_for(lambda: one.worked() == other.worked() == ["first", "second"])
        of_one, of_other = sorted(ids, key=lambda run_id: str(one.runs.get(run_id).learner), reverse=False)
        assert str(one.runs.get(of_one).learner).endswith("/one")

        # A machine that never comes back.
        lost = LostRuns(other.runs)
        lost.look(0.0)
        one.kill()
        lost.look(1.0)
        lost.look(LOST_SECONDS / 2)  # `of_other` goes on giving signs of life, `of_one` doesn't
        assert one.runs.get(of_one).status is RunStatus.RUNNING

        # The database stops in the middle of a stage.
        postgresql.stop()
        with pytest.raises(DatabaseDown):
            lost.look(LOST_SECONDS)
        other.go("second")
        postgresql.start()
        assert other.end_of(of_other).status is RunStatus.DONE
        lost.look(LOST_SECONDS)
        assert other.runs.get(of_one).status is RunStatus.RUNNING  # nobody could give a sign while it was away
        lost.look(2 * LOST_SECONDS)
        assert other.end_of(of_one).status is RunStatus.DONE
        assert other.worked().count("first") == 1
        assert one.worked() == ["first", "second"]


def test_progress_is_a_share_and_the_time_that_is_left() -> None:
    progress = Progress()
    assert progress.take("training: 0%", 100.0)
    assert not progress.take("training: 25%, loss 0.31", 110.0)
    assert progress.shown(112.0) == {"text": "training: 25%, loss 0.31", "share": 0.25, "seconds_left": 36.0}
    assert progress.take("saving", 115.0)
    assert progress.shown(120.0) == {"text": "saving", "share": None, "seconds_left": None}


def test_progress_foresees_nothing_from_a_moment() -> None:
    progress = Progress()
    progress.take("reading: 1%", 0.0)
    progress.take("reading: 50%", 1.0)
    assert progress.shown(1.5)["seconds_left"] is None

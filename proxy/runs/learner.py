"""The learner: one process beside the proxy, or alone on a machine of its own, that does the runs.

It takes runs from the queue, one at a time as a rule, and does each stage in a child process (`stage_process.py`);
meanwhile it looks after what is promoted (`watch/`) and begins runs that are due (`schedule.py`). Serving never depends
on it.

It may be killed at any time and has no other way to end: every finished stage is in the database, and a run that was
interrupted goes on behind the last of them.

- Whose run is it? A learner is known by its machine and data directory (DBOS's executor id), so that one that comes
  back knows its own. A lock file keeps two of the same name apart.
- A machine that never comes back leaves its run `running`. The others take a run over whose signs of life stopped.
- Who lost a run like that (a machine that slept) must not go on with it, and ends at once to start afresh.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import structlog

from proxy.errors import Conflict, DataDirUnusable
from proxy.learning.forgetting import forget_samples
from proxy.logs import OncePerMinute
from proxy.runs.queue import (
    APPLICATION,
    LINES,
    QUEUE,
    SCHEMA,
    WORKFLOW,
    WORKFLOW_VERSION,
    RunKind,
    Runs,
    RunStatus,
    RunWish,
    mapped_errors,
    system_database,
)
from proxy.runs.schedule import Learnable, is_learning_due, task_to_train
from proxy.runs.stage_process import DatabaseAway, Figures, Stage, StagesOf, run_in_child
from proxy.runs.stages import stages_of
from proxy.runs.wanting import can_train, trainable_tasks
from proxy.settings import Settings
from proxy.watch.watch import Watch
from router.progress import Autopilot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.repositories.calls import count_calls, first_arrival
from storage.repositories.clusters import last_snapshot

WATCH_SECONDS = 1.0
SCHEDULE_SECONDS = 60.0
TRAIN_EVERY_SECONDS = 600.0  # it adds the whole account up
LOST_EVERY_SECONDS = 10.0
HOUSE_SECONDS, FIRST_HOUSE_SECONDS = 3600.0, 60.0
QUEUE_SECONDS = 0.5
#: How often a run that works gives a sign of life, and after how long without one it is lost. By each learner's own
#: clock: those of two machines may differ.
BEAT_SECONDS = 10.0
LOST_SECONDS = 180.0  # longer than DBOS' longest pause between two tries at a database that is away
#: Progress is kept at most so often.
TELL_SECONDS = 1.0
DATABASE_PAUSE_SECONDS = 2.0
#: A run that takes its learner with it so often is given up.
MAX_RECOVERIES = 20
_SHARE = re.compile(r"(\d{1,3})(?:\.\d+)?\s?%")
#: Time left is told once a stage has been at it for so long.
_FORESIGHT_SECONDS = 3.0

log = structlog.get_logger()


def run_learner(settings: Settings, stages_of: StagesOf = stages_of, *, wait: bool = True) -> NoReturn:
    """Learn until SIGTERM.

    Args:
        stages_of: what a run does.
        wait: for a learner of the same data directory to end, where there is one.

    Raises:
        Conflict: another learner has the data directory, and `wait` says no; or DBOS is not installed.
        DataDirUnusable: the lock can't be made.
    """
    lock = _hold(settings.data_dir, wait)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as if killed: its child notices; nothing else is to be done
    with mapped_errors():
        learner = Learner(settings, stages_of)
    cipher, database = Cipher.open(settings.data_dir), Database(settings.database)
    _wait_for(database, cipher, learner.runs)
    with mapped_errors():
        learner.launch()
    log.info("learner.started", learner=learner.name)
    Rounds(settings, database, cipher, learner.runs, lock).go_round()


def _wait_for(database: Database, cipher: Cipher, runs: Runs) -> None:
    """Until the databases of the log and of the runs are there, their schemas up to date."""
    once = OncePerMinute()
    while True:
        try:
            database.upgrade(cipher)
            runs.beats()
            return
        except DatabaseDown as error:
            if once("database"):
                log.warning("learner.waits", error=str(error))
            time.sleep(DATABASE_PAUSE_SECONDS)


def _hold(data_dir: Path, wait: bool) -> Path:
    """Be the only learner of this machine on a data directory, until the process ends.

    Returns:
        The file that says so; a learner that is well touches it.

    Raises:
        Conflict: another has it, and `wait` says no.
        DataDirUnusable
    """
    path = data_dir / f"learner-{socket.gethostname()}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # never closed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode(errors="replace").strip()
            raise Conflict(f"a learner (process {holder}) works on {data_dir} already") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise DataDirUnusable(f"UNDERSTUDY_DATA_DIR={data_dir}: {path.name}: {error.strerror}") from error
    return path


class Learner:
    """DBOS, with the one workflow that every run is.

    Attributes:
        name: what this learner is known by among others.
    """

    def __init__(self, settings: Settings, stages_of: StagesOf) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        self.name = f"{socket.gethostname()}:{settings.data_dir.resolve()}"
        self.runs = Runs(settings)
        self._settings = settings
        self._stages_of = stages_of
        self._dbos = DBOS
        _quieten()
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": system_database(settings),
                "dbos_system_schema": SCHEMA,
                "application_version": WORKFLOW_VERSION,
                "executor_id": self.name,
                "serializer": DBOSPortableJSONSerializer(),
                "use_listen_notify": False,
                "enable_otlp": False,
                "log_level": "WARNING",
            }
        )

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_RECOVERIES)
        def run(asked: dict[str, Any]) -> dict[str, Any]:
            return self._run(asked)

    def launch(self) -> None:
        """Begin to take runs, the own interrupted one first."""
        self._dbos.launch()
        self._dbos.register_queue(
            QUEUE,
            worker_concurrency=self._settings.runs_at_once,
            polling_interval_sec=QUEUE_SECONDS,
            on_conflict="always_update",
        )

    def _run(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The workflow: all that it does, it does in steps, so that it can be gone through again."""
        wish = RunWish(**asked | {"kind": RunKind(asked["kind"])})
        done: dict[str, Figures] = {}
        for stage in self._stages_of(wish):
            step = StageAtWork(self.runs, str(self._dbos.workflow_id), self.name, stage, self._settings)
            done[stage.name] = self._dbos.run_step({"name": stage.name}, step.work, wish, dict(done))
        return {"record": "; ".join(figures.get("in_words", name) for name, figures in done.items()), "figures": done}


class StageAtWork:
    """A stage of one run while it works: what it tells is kept, and its run may be cancelled or lost meanwhile."""

    def __init__(self, runs: Runs, run_id: str, learner: str, stage: Stage, settings: Settings) -> None:
        self._runs = runs
        self._run_id = run_id
        self._learner = learner
        self._stage = stage
        self._settings = settings
        self._lines: list[str] = []
        self._progress = Progress()
        self._fresh = False
        self._told_at = float("-inf")
        self._beat = f"{learner} {time.time():.3f}"

    def work(self, wish: RunWish, done: dict[str, Figures]) -> Figures:
        """Do it, as often as the database goes away meanwhile.

        Raises:
            StageFailed: with the reason in one line.
        """
        self._begin()
        try:
            while True:
                try:
                    return run_in_child(self._stage, self._settings, wish, done, self._tell, self._is_cancelled)
                except DatabaseAway as error:  # the database of the log; that of the runs DBOS itself waits for
                    self._tell(f"waiting for the database: {error}")
                    time.sleep(DATABASE_PAUSE_SECONDS)
        finally:
            self._note(lines=self._lines)

    def _begin(self) -> None:
        try:
            run = self._runs.get(self._run_id)
        except DatabaseDown:
            return
        self._lines = list(run.lines)
        if run.started_at is None:
            self._note(began_ms=int(time.time() * 1000))
        if run.stage == self._stage.name:
            self._tell(f"{self._stage.name}: again, its learner was interrupted")
        else:
            self._tell(self._stage.name)

    def _tell(self, line: str | None) -> None:
        """Take a progress line, or none; keep them, not too often."""
        now = time.monotonic()
        if line is not None:
            if self._progress.take(line, now) or not self._lines:
                stamp = datetime.now(UTC).isoformat(timespec="seconds")
                self._lines = [*self._lines, f"{stamp} {line}"][-LINES:]
            self._fresh = True
        if now - self._told_at < (TELL_SECONDS if self._fresh else BEAT_SECONDS):
            return
        self._told_at, self._fresh = now, False
        self._beat = f"{self._learner} {time.time():.3f}"
        self._note(stage=self._stage.name, lines=self._lines, progress=self._progress.shown(now), beat=self._beat)

    def _note(self, **attributes: Any) -> None:
        try:
            self._runs.note(self._run_id, **attributes)
        except DatabaseDown as error:  # the work goes on; the next line tells more
            log.info("run.not_noted", run=self._run_id, error=str(error))

    def _is_cancelled(self) -> bool:
        try:
            owner = self._runs.owner(self._run_id)
        except DatabaseDown:
            return False
        if owner is not None and owner != self._learner:
            log.warning("run.lost", run=self._run_id, learner=owner)
            os._exit(1)  # what this one would write, even an error, would be in the other's way
        return owner is None


class Progress:
    """What a stage's progress lines come to: `what: how far`, with a share where they name one."""

    def __init__(self) -> None:
        self._text = ""
        self._what = ""
        self._began_at = 0.0
        self._first_share = 0.0
        self._share: float | None = None

    def take(self, line: str, now: float) -> bool:
        """Read a line; says whether something new has begun with it.

        Args:
            now: monotonic seconds.
        """
        what = line.partition(":")[0]
        found = _SHARE.search(line)
        share = min(int(found[1]) / 100, 1.0) if found else None
        begins = what != self._what
        if begins or self._share is None:
            self._what, self._began_at, self._first_share = what, now, share or 0.0
        self._text, self._share = line, share
        return begins

    def shown(self, now: float) -> dict[str, Any]:
        """As a run's record has it: `text`; `share` and `seconds_left` where they are known."""
        return {"text": self._text, "share": self._share, "seconds_left": self._seconds_left(now)}

    def _seconds_left(self, now: float) -> float | None:
        """As long as it took for what is done, in proportion."""
        if self._share is None or self._share <= self._first_share or now - self._began_at < _FORESIGHT_SECONDS:
            return None
        return round((now - self._began_at) * (1 - self._share) / (self._share - self._first_share), 1)


class Rounds:
    """What a learner does beside the runs, again and again."""

    def __init__(self, settings: Settings, database: Database, cipher: Cipher, runs: Runs, lock: Path) -> None:
        """
        Args:
            lock: the learner's; each round that goes well touches it, for whoever asks whether the learner is.
        """
        self._settings = settings
        self._lock = lock
        self._runs = runs
        self._database = database
        self._cipher = cipher
        self._watch = Watch(settings, database, cipher)
        self._lost = LostRuns(runs)
        self._once = OncePerMinute()
        self._house: threading.Thread | None = None

    def go_round(self) -> NoReturn:
        """Until the process ends."""
        schedule_at = train_at = lost_at = time.monotonic()
        house_at = schedule_at + FIRST_HOUSE_SECONDS
        while True:
            now = time.monotonic()
            try:
                self._watch.look()
                if now >= lost_at:
                    lost_at = now + LOST_EVERY_SECONDS
                    self._lost.look(now)
                if now >= schedule_at:
                    schedule_at = now + SCHEDULE_SECONDS
                    learn_if_due(self._settings, self._database, self._runs, datetime.now(UTC))
                if now >= train_at:
                    train_at = now + TRAIN_EVERY_SECONDS
                    train_if_due(self._settings, self._database, self._cipher, self._runs)
                if now >= house_at:
                    house_at = now + HOUSE_SECONDS
                    self._begin_to_forget()
                with suppress(FileNotFoundError):
                    os.utime(self._lock)
            except DatabaseDown as error:
                if self._once("database"):
                    log.warning("learner.waits", error=str(error))
            except Exception:
                if self._once("round"):
                    log.error("learner.round_failed", exc_info=True)
            time.sleep(max(WATCH_SECONDS - (time.monotonic() - now), 0.1))

    def _begin_to_forget(self) -> None:
        """In a thread: reading all datasets takes longer than a promotion may wait for its watch."""
        if self._house is None or not self._house.is_alive():
            self._house = threading.Thread(target=self._forget, name="forgetting", daemon=True)
            self._house.start()

    def _forget(self) -> None:
        """Old runs, and the samples of calls that the log has forgotten."""
        try:
            self._runs.forget_before(datetime.now(UTC) - timedelta(days=self._settings.retention_days))
            artifacts = ArtifactStore(self._settings.artifacts_dir, self._cipher)
            artifacts.sweep()
            forgotten = forget_samples(artifacts, self._database)
            if forgotten:
                log.info("samples.forgotten", samples=forgotten)
        except DatabaseDown as error:
            log.warning("learner.forgets_later", error=str(error))
        except Exception:
            log.error("learner.forgetting_failed", exc_info=True)


def learn_if_due(settings: Settings, database: Database, runs: Runs, now: datetime) -> None:
    """Ask for a run that learns the log again, where that grew; one that is queued or running stays the only one.

    Raises:
        DatabaseDown
    """
    every_hours = settings.learn_every_hours
    is_due = is_learning_due(_learnable(database), every_hours, now)
    if is_due and not _has_failed(runs, since=now - timedelta(hours=every_hours)):
        _ask(runs, RunWish(RunKind.LEARN))


def _has_failed(runs: Runs, since: datetime) -> bool:
    """Whether the last run that learned the log failed after `since`: what failed fails again, until there is more."""
    for run in runs.list_runs():
        if run.wish.kind is RunKind.LEARN:
            return run.status is RunStatus.FAILED and run.created_at > since
    return False


def train_if_due(settings: Settings, database: Database, cipher: Cipher, runs: Runs) -> None:
    """Ask for a run that trains an SLM, where the settings let things happen by themselves and a task is worth it.

    Raises:
        DatabaseDown
    """
    if settings.autopilot is not Autopilot.ON or not can_train(settings):
        return
    with database.read() as session:
        tasks = trainable_tasks(session, cipher, settings, runs)
    task = task_to_train(tasks)
    if task is not None:
        _ask(runs, RunWish(RunKind.TRAIN, task.cluster_id))


def _ask(runs: Runs, wish: RunWish) -> None:
    run, is_new = runs.enqueue(wish, "schedule")
    if is_new:
        log.info("run.asked", run=run.id, kind=wish.kind.value, cluster=wish.cluster, asked_by="schedule")


def _learnable(database: Database) -> Learnable:
    with database.read() as session:
        last = last_snapshot(session)
        if last is None:
            return Learnable(count_calls(session), None, first_arrival(session))
        assert last.activated_at is not None
        arrived = count_calls(session, since=last.created_at)
        imported = count_calls(session) - last.calls
        return Learnable(max(arrived, imported), last.calls, last.activated_at)


class LostRuns:
    """Finds runs whose learner is gone, and gives them to the next one."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._seen: dict[str, tuple[Any, float]] = {}

    def look(self, now: float) -> None:
        """Note every running run's last sign of life; one that stays the same for too long is lost.

        Args:
            now: monotonic seconds.

        Raises:
            DatabaseDown
        """
        known, self._seen = self._seen, {}  # a database that is away keeps no signs: then they count afresh
        seen: dict[str, tuple[Any, float]] = {}
        for run_id, sign in self._runs.beats().items():
            before, at = known.get(run_id, (None, now))
            if sign == before and now - at >= LOST_SECONDS:
                log.warning("run.requeued", run=run_id, learner=sign[0], silent_seconds=LOST_SECONDS)
                self._runs.requeue(run_id)
            else:
                seen[run_id] = (sign, at if sign == before else now)
        self._seen = seen


def _quieten() -> None:
    """DBOS' own log comes as lines of ours, without its traces of what it then deals with itself."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = record.exc_info[1] if record.exc_info else None
            said = " ".join(f"{record.getMessage()} {cause or ''}".split())
            log.warning("runs.engine", said=said)

    logging.getLogger("dbos").addHandler(Lines(logging.WARNING))
    logging.getLogger("dbos").propagate = False

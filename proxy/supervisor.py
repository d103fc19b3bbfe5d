"""`understudy serve`: worker processes that share one port, and the shipper and the learner beside them.

The supervisor is uvicorn's, also for a single worker, so that there is one way to run. It holds no traffic and no
state: it starts children, replaces the dead, and ends when told to. A child whose supervisor was killed drains and
ends by itself.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
from importlib.util import find_spec
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from proxy.errors import DataDirUnusable, PortUnusable, UnderstudyError
from proxy.logs import configure_logs
from proxy.settings import Settings
from proxy.transport.http_server import ClientConnection
from storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp

BACKLOG = 2048
# Longer than the idle connections of the official clients live (httpx: 5 s), shorter than a load balancer's 60 s.
KEEP_ALIVE_SECONDS = 75
TICK_SECONDS = 0.5
# A worker that does not answer the supervisor's ping for so long hangs. Generous: a busy machine is no hung worker.
HEALTHCHECK_SECONDS = 15
# Pause before a worker that died young is replaced, so that a broken installation does not burn a core.
RESTART_PAUSE_SECONDS = 1.0
YOUNG_SECONDS = 3.0
YOUNG_LEARNER_SECONDS = 60.0
# A learner that dies again and again is started ever more rarely, down to once in so many seconds: nobody waits for it.
LEARNER_PAUSE_SECONDS = 60.0
# Given to a child beyond its own drain before it is killed.
GRACE_SECONDS = 5.0
# The shipper's last round at shutdown; what it does not get done stays in the spool.
SHIPPER_SECONDS = 15.0

spawn = multiprocessing.get_context("spawn")
log = structlog.get_logger()


def serve(
    settings: Settings, host: str, port: int, workers: int, announce: Callable[[str], None], *, learner: bool = True
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: handed to every child.
        host: name or address to listen on.
        port: 0 takes any free one.
        workers: at least 1.
        announce: gets the base URL as soon as every worker serves.
        learner: whether to learn, too; it needs DBOS to be installed.

    Returns:
        The exit status: 0 after an orderly end, 1 when the workers could not start.

    Raises:
        DataDirUnusable: the data directory can't be made or written.
        PortUnusable: taken, or not ours to take.
    """
    prepare_data_dir(settings.data_dir)
    listener = listen(host, port)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(fresh_metrics_dir(settings.data_dir))
    config = Config(
        functools.partial(worker_app, settings),
        factory=True,
        workers=workers,
        loop="uvloop",
        http=ClientConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # the upstream's is passed on
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
        timeout_worker_healthcheck=HEALTHCHECK_SECONDS,
    )
    shown_host = f"[{host}]" if ":" in host else host
    url = f"http://{shown_host}:{listener.getsockname()[1]}"
    if learner and find_spec("dbos") is None:
        log.warning("learner.not_started", reason="dbos is not installed")
        learner = False
    supervisor = Supervisor(config, [listener], settings, lambda: announce(url), learner=learner)
    supervisor.run()
    return 1 if supervisor.failed else 0


def prepare_data_dir(path: Path) -> None:
    """Make the data directory and see that it can be written.

    Raises:
        DataDirUnusable: it can't.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataDirUnusable(f"UNDERSTUDY_DATA_DIR={path}: can't be used: {error.strerror}") from error


def listen(host: str, port: int) -> socket.socket:
    """Open the one socket that all workers accept from.

    Raises:
        PortUnusable: with the address and the reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PortUnusable(f"can't listen on {host}:{port}: {reason}") from error
    listener.set_inheritable(True)
    return listener


def fresh_metrics_dir(data_dir: Path) -> Path:
    """An empty directory for this run's metrics; those of supervisors that are gone are removed."""
    root = data_dir / "metrics"
    root.mkdir(exist_ok=True, mode=0o700)
    for old in root.iterdir():
        if old.name == str(os.getpid()) or not _is_alive(old.name):
            shutil.rmtree(old, ignore_errors=True)
    directory = root / str(os.getpid())
    directory.mkdir(mode=0o700)
    return directory


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def worker_app(settings: Settings) -> ASGIApp:
    """The app of one worker, made in its process.

    A worker that can't be built says why in one line and exits with the status that uvicorn knows as a failed start.
    """
    from proxy.app import create_app

    configure_logs()
    end_with_parent()
    try:
        return create_app(settings)
    except (StorageError, DataDirUnusable) as error:
        log.error("worker.failed", error=str(error))
        sys.exit(STARTUP_FAILURE)


def end_with_parent() -> None:
    """Ask this process to end, as SIGTERM does, when its parent is gone (killed, say)."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class Worker(Process):
    """A worker whose death is known at once, also while it is pinged."""

    def _healthcheck(self, timeout: float) -> bool | None:
        """Uvicorn's, which waits out its timeout for the dead: the parent, too, holds the pipe's other end."""
        try:
            self.parent_conn.send(b"ping")
            if self.parent_conn in wait([self.parent_conn, self.process.sentinel], timeout):
                started: bool = self.parent_conn.recv()
                return started
        except (OSError, EOFError):
            pass
        return None


class Supervisor(Multiprocess):
    """Keeps N workers, the shipper and the learner alive.

    Attributes:
        failed: whether it ended because the workers could not start.
    """

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket],
        settings: Settings,
        announce: Callable[[], None],
        *,
        learner: bool,
    ) -> None:
        super().__init__(config, list(sockets))
        self.failed = False
        self._settings = settings
        self._announce: Callable[[], None] | None = announce
        self._shipper: SpawnProcess | None = None
        self._learner: SpawnProcess | None = None
        self._learner_wanted = learner
        self._learner_at = 0.0
        self._learner_pause_seconds = RESTART_PAUSE_SECONDS
        self._started_at: dict[int | None, float] = {}

    def run(self) -> None:
        """Start, watch, and stop in order: workers drain first, then the shipper takes what they logged last.

        The learner ends before them all, at once: what it was at is gone on with by the next.
        """
        self.init_processes()
        while not self.should_exit.is_set():
            wait([child.sentinel for child in self._children()], timeout=TICK_SECONDS)
            self.handle_signals()
            self.keep_subprocess_alive()
        self._stop_learner()
        self.terminate_all()
        self.join_all()
        self._stop_shipper()

    def init_processes(self) -> None:
        """Start everything."""
        self._shipper = self._start_shipper()
        self.processes = [self._start_worker() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace what has died; announce the service when every worker has started for the first time."""
        if self.should_exit.is_set():
            return
        for index, worker in enumerate(self.processes):
            if worker.is_alive(timeout=HEALTHCHECK_SECONDS):
                continue
            worker.kill()
            worker.join()
            _forget_gauges(worker.pid)
            if worker.exitcode == STARTUP_FAILURE and self._announce is not None:
                self.failed = True
                self.should_exit.set()
                return
            log.warning("worker.died", pid=worker.pid, exit_status=worker.exitcode)
            self._pause_if_young(worker.pid)
            self.processes[index] = self._start_worker()
        if self._shipper is not None and not self._shipper.is_alive():
            log.warning("shipper.died", pid=self._shipper.pid, exit_status=self._shipper.exitcode)
            _forget_gauges(self._shipper.pid)
            self._pause_if_young(self._shipper.pid)
            self._shipper = self._start_shipper()
        self._keep_learner_alive()
        if self._announce is not None and all(worker.is_ready(HEALTHCHECK_SECONDS) for worker in self.processes):
            self._announce()
            self._announce = None

    def _keep_learner_alive(self) -> None:
        """Start the learner, once the workers serve, and again when it has died; nothing waits for it."""
        if not self._learner_wanted or self._announce is not None:
            return
        now = time.monotonic()
        if self._learner is None:
            if now >= self._learner_at:
                self._learner = spawn.Process(target=learn, args=(self._settings,), name="learner")
                self._learner.start()
                self._started_at[self._learner.pid] = now
        elif not self._learner.is_alive():
            log.warning("learner.died", pid=self._learner.pid, exit_status=self._learner.exitcode)
            young = now - self._started_at.pop(self._learner.pid, 0.0) < YOUNG_LEARNER_SECONDS
            self._learner_pause_seconds = (
                min(2 * self._learner_pause_seconds, LEARNER_PAUSE_SECONDS) if young else RESTART_PAUSE_SECONDS
            )
            self._learner, self._learner_at = None, now + self._learner_pause_seconds

    def join_all(self) -> None:
        """Wait for the workers to drain; kill those that are still there a little after their time."""
        deadline = time.monotonic() + self._settings.drain_seconds + GRACE_SECONDS
        for worker in self.processes:
            worker.process.join(max(deadline - time.monotonic(), 0.1))
            if worker.process.is_alive():
                log.warning("worker.killed", pid=worker.pid, reason="did not drain in time")
                worker.process.kill()
                worker.process.join()

    def _children(self) -> list[SpawnProcess]:
        beside = [child for child in (self._shipper, self._learner) if child is not None]
        return [worker.process for worker in self.processes] + beside

    def _start_worker(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        self._started_at[worker.pid] = time.monotonic()
        return worker

    def _start_shipper(self) -> SpawnProcess:
        shipper = spawn.Process(target=ship, args=(self._settings,), name="shipper")
        shipper.start()
        self._started_at[shipper.pid] = time.monotonic()
        return shipper

    def _stop_shipper(self) -> None:
        if self._shipper is None:
            return
        self._shipper.terminate()
        self._shipper.join(SHIPPER_SECONDS)
        if self._shipper.is_alive():
            self._shipper.kill()
            self._shipper.join()

    def _stop_learner(self) -> None:
        if self._learner is not None:
            self._learner.kill()
            self._learner.join()

    def _pause_if_young(self, pid: int | None) -> None:
        if time.monotonic() - self._started_at.pop(pid, 0.0) < YOUNG_SECONDS:
            self.should_exit.wait(RESTART_PAUSE_SECONDS)


def _forget_gauges(pid: int | None) -> None:
    """Take a dead process' live gauges out of the scrape. Its counters stay: they happened."""
    from prometheus_client.multiprocess import mark_process_dead

    with contextlib.suppress(FileNotFoundError):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


def ship(settings: Settings) -> None:
    """The shipper process, from its first line to its last."""
    os.nice(19)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the supervisor decides the order
    from proxy.shipping import run_shipper

    configure_logs()
    logging.getLogger().setLevel(logging.WARNING)
    end_with_parent()
    run_shipper(settings)


def learn(settings: Settings) -> None:
    """The learner process, from its first line to its last."""
    os.nice(10)  # what it looks after is served from; its stages, which compute for hours, stand behind it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from proxy.runs.learner import run_learner

    configure_logs()
    end_with_parent()
    try:
        run_learner(settings)
    except (UnderstudyError, StorageError) as error:
        log.error("learner.failed", error=str(error))
        sys.exit(1)

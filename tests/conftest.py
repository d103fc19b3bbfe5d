"""What every test may use: the product as a real process, a simulated LLM on a real socket, and the recorded data."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from proxy.replay.upstream import ReplayUpstream
from tests.postgresql import PostgreSQL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first, so that no process of `--numprocesses` is left with it at the end."""
    for item in items:
        if not item.nodeid.startswith(REAL_PROCESSES):
            item.add_marker(pytest.mark.flaky(reruns=0))  # the same each time: a failure is one
    items.sort(key=lambda item: [item.nodeid.startswith(folder) for folder in LONGEST], reverse=True)


class Together(LoadFileScheduling):
    """A file's tests stay in one process and in their order, as its fixtures expect; so do some folders'."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((folder for folder in ONE_PROCESS if file.startswith(folder)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """How `--numprocesses` shares out the tests."""
    config.option.loadscopereorder = False
    return Together(config, log)


# These machines are slow and have noisy neighbours: examples count, seconds don't.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

ADMIN_TOKEN = "test-admin-token"
GREETING = "Hello! How can I help you?"  # 8 tokens of o200k_base
PATIENCE_SECONDS = 30.0
#: What starts servers and browsers: slow machines may get the better of it, and `make test` tries it once more.
REAL_PROCESSES = (
    "tests/vllm", "tests/console", "tests/integration", "tests/clients", "tests/cli", "tests/deploy",
    "tests/proxy/runs", "tests/proxy/test_supervisor.py", "tests/proxy/test_traces.py",
)  # fmt: skip
LONGEST = (
    "tests/vllm", "tests/console", "tests/deploy", "tests/router/learning/training", "tests/integration",
    "tests/router/learning/test_recorded_calls.py", "tests/clients", "tests/cli", "tests/proxy/runs",
)  # fmt: skip
#: Their fixtures take half a minute: a Prometheus that has seen traffic, base models, recognisers.
ONE_PROCESS = ("tests/deploy/", "tests/router/learning/training/", "tests/router/learning/curation/")
_HERE = Path(__file__).resolve().parent
_SERVES = re.compile(r"serves (http://\S+)/v1")


def wait_for(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Ask until it is so.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come true in {seconds} s")
        time.sleep(0.05)


class Proxy:
    """A running `understudy serve`.

    Attributes:
        root: base URL of everything.
        base_url: what a client is pointed at, ending in `/v1`.
        data_dir: its data directory.
        process: the supervisor.
        errors: the file that its standard error goes to.
    """

    def __init__(self, process: subprocess.Popen[str], data_dir: Path, errors: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.errors = errors
        self.root = self._announced()
        self.base_url = f"{self.root}/v1"

    def _announced(self) -> str:
        """The URL that it prints when every worker serves."""
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert self.process.stdout is not None
            with contextlib.suppress(ValueError):  # closed by `stop`
                for line in self.process.stdout:
                    lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.5)
                if matched := _SERVES.search(line):
                    return matched[1]
                if not line:
                    break
        self.stop()
        raise AssertionError(f"understudy serve did not start: {self.errors.read_text()[-3000:]}")

    def admin(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Call the admin API, below `/admin/v1`."""
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.request(method, f"{self.root}/admin/v1{path}", headers=headers, timeout=30, **arguments)

    def logged(self) -> int:
        """How many calls are in the database."""
        total: int = self.admin("GET", "/calls?limit=1").json()["total"]
        return total

    def metric(self, sample: str) -> float:
        """A metric's value; 0 where it isn't there. `understudy_calls_total{endpoint="chat",…}`, labels sorted."""
        for line in httpx.get(f"{self.root}/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0

    def children(self, kind: str) -> list[psutil.Process]:
        """Its `worker` processes, or its `shipper` or `learner`, oldest first."""
        children = psutil.Process(self.process.pid).children()
        return sorted((c for c in children if _kind(c) == kind), key=lambda child: child.create_time())

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """SIGTERM, and wait for the end; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert self.process.stdout is not None
        return status

    def kill(self) -> None:
        """SIGKILL to the supervisor and all its children, as a machine that loses power."""
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self.process.pid)
            for process in [tree, *tree.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(10)


def _kind(child: psutil.Process) -> str:
    """`worker`, `shipper`, `learner`, `tracker` (of Python's multiprocessing); `gone` for one that has just ended."""
    try:
        if "resource_tracker" in " ".join(child.cmdline()):
            return "tracker"
        return {19: "shipper", 10: "learner"}.get(child.nice(), "worker")
    except psutil.NoSuchProcess:  # zombies among them
        return "gone"


class Serve(Protocol):
    """Starts the product.

    Args:
        workers: how many.
        data_dir: to go on with what an earlier one left; else a fresh one.
        settings: by their names in lower case, without the prefix.
    """

    def __call__(self, *, workers: int = 1, data_dir: Path | None = None, **settings: str) -> Proxy: ...


@contextmanager
def running(
    directory: Path, workers: int = 1, data_dir: Path | None = None, learner: bool = False, **values: str
) -> Iterator[Proxy]:
    """Run the product as an operator would, until the end of the block.

    Args:
        directory: holds the data directory, unless another is given, and the output.
        learner: whether it learns, too; most tests have no use for the work that it makes.
        values: settings, by their names without the prefix, in lower case.
    """
    data_dir = data_dir or directory / "data"
    errors = directory / f"errors-{time.monotonic_ns()}.log"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "proxy.cli", "serve", "--port", "0", "--workers", str(workers)),
                "--learner" if learner else "--no-learner",
            ],
            env=environment_with(data_dir, **values),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    proxy = Proxy(process, data_dir, errors)
    try:
        yield proxy
    finally:
        proxy.stop()
        assert process.stdout is not None
        process.stdout.close()
    assert "Traceback" not in errors.read_text()  # what can go wrong is foreseen, and told in a line


def environment_with(data_dir: Path, **values: str) -> dict[str, str]:
    """This process' environment with only the given settings of the product."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    own = {"UNDERSTUDY_DATA_DIR": str(data_dir), "UNDERSTUDY_ADMIN_TOKEN": ADMIN_TOKEN, "HF_HUB_OFFLINE": "1"}
    return inherited | own | {f"UNDERSTUDY_{name.upper()}": value for name, value in values.items()}


def understudy(*arguments: str, data_dir: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product."""
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", *arguments],
        env=environment_with(data_dir, **values),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start the product, with settings of the test's own; all are stopped at its end."""
    with ExitStack() as started:

        def start(*, workers: int = 1, data_dir: Path | None = None, **settings: str) -> Proxy:
            return started.enter_context(running(tmp_path, workers, data_dir, **settings))

        yield start


def answer_to_everything(request: dict[str, Any]) -> str:
    """The simulated LLM's answer where a test does not care which."""
    return GREETING


@pytest.fixture
def upstream() -> Iterator[ReplayUpstream]:
    """A simulated LLM that answers everything."""
    server = ReplayUpstream(answerer=answer_to_everything)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recorded calls, where they are at hand."""
    found = _HERE.parent.parent / "shared" / "data"
    if not found.is_dir():
        pytest.skip("needs ../shared/data, which is not here")
    return found


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real server, shared; each test makes a database of its own."""
    server = PostgreSQL()
    yield server
    server.remove()

"""The demo's real servers, each a process of its own: `understudy serve`; vLLM's CPU build, or `transformers serve`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from proxy.errors import UnderstudyError

VLLM = Path(".venv-vllm/bin/vllm")
BASE = "tiny"  # what vLLM calls the base model
PROXY_START_SECONDS, SLM_START_SECONDS = 60.0, 180.0
PROXY_STOP_SECONDS, SLM_STOP_SECONDS = 60.0, 20.0


class DemoFailed(UnderstudyError):
    """A part of the demo did not come up; the message says which, and how its log ends."""

    code = "demo_failed"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process' environment with only the given settings of the product."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    return inherited | dict(settings)


@contextlib.contextmanager
def proxy(work: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """The real `understudy serve`, until the end of the block.

    Yields:
        Its base URL, ending in `/v1`.

    Raises:
        DemoFailed: it did not come up.
    """
    port = free_port()
    command = [sys.executable, "-m", "proxy.cli", "serve", "--port", str(port)]
    with _process(command, environment(settings), work / "proxy.log", PROXY_STOP_SECONDS) as process:
        await_answer(f"http://127.0.0.1:{port}/readyz", process, work / "proxy.log", PROXY_START_SECONDS)
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def vllm(base: Path, port: int, log: Path, command: Path = VLLM) -> Iterator[Callable[[], None]]:
    """The real vLLM with a tiny model, until the end of the block.

    Args:
        base: the model's directory; it is served as `tiny`.
        log: gets its output.
        command: in the environment that `make setup` made.

    Yields:
        A function that waits until it serves, and raises `DemoFailed` if it never does. Starting takes half a minute
        or more of Python imports: do something else meanwhile.
    """
    with _process(vllm_command(command, base, port), vllm_environment(), log, SLM_STOP_SECONDS) as process:
        yield lambda: await_answer(f"http://127.0.0.1:{port}/health", process, log, SLM_START_SECONDS)


def vllm_command(command: Path, base: Path, port: int) -> list[str]:
    """How a vLLM for tiny models is started on a CPU."""
    return [
        str(command.absolute()), "serve", str(base), "--served-model-name", BASE, "--host", "127.0.0.1",
        "--port", str(port), "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager",
        "--kv-cache-memory-bytes", "64M", "--enable-lora", "--max-loras", "4", "--max-lora-rank", "16",
        "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    ]  # fmt: skip


def vllm_environment() -> dict[str, str]:
    """No hub, no telemetry, no lazy compilation, adapters at run time."""
    return environment({}) | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TORCHDYNAMO_DISABLE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }  # fmt: skip


@contextlib.contextmanager
def transformers_serve(model: Path, port: int, log: Path) -> Iterator[Callable[[], None]]:
    """The real `transformers serve` with one model, until the end of the block.

    Args:
        model: the model's directory, merged; its path is the name that requests must give.
        log: gets its output.

    Yields:
        A function that waits until it serves, and raises `DemoFailed` if it never does.
    """
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--host", "127.0.0.1",
        "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    # A second thread would only wait for the first: the demo's model is tiny, and generates one answer at a time.
    environ = environment({}) | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    with _process(command, environ, log, SLM_STOP_SECONDS) as process:
        yield lambda: await_answer(f"http://127.0.0.1:{port}/health", process, log, SLM_START_SECONDS)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Ask until the server says 200.

    Raises:
        DemoFailed: its process ended, or the time is up.
    """
    deadline = time.monotonic() + seconds
    while not _answers(url):
        if process.poll() is not None:
            raise DemoFailed(f"`{_name(process)}` ended with status {process.returncode}: {_end_of(log)}")
        if time.monotonic() > deadline:
            raise DemoFailed(f"`{_name(process)}` did not serve within {seconds:.0f} s: {_end_of(log)}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _name(process: subprocess.Popen[bytes]) -> str:
    arguments = process.args
    assert isinstance(arguments, list)
    return " ".join(map(str, arguments[:4]))


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-5:]) or "it said nothing"


@contextlib.contextmanager
def _process(
    command: list[str], environ: dict[str, str], log: Path, stop_seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own (a Ctrl-C at the terminal is not its), which leaves nothing behind."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(stop_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
        process.wait()

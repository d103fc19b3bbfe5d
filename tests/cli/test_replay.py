"""`understudy replay --upstream-only`: the simulated LLM on a real socket, and its faults."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import environment_with, understudy

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Capital of Norway?"}]}
ANSWER = {"role": "assistant", "content": "It is Oslo, which lies at the end of a fjord."}
Served = Callable[..., str]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file with one recorded call."""
    path = tmp_path / "calls.jsonl"
    path.write_text(json.dumps({"request": REQUEST, "response": ANSWER}) + "\n")
    return path


@contextmanager
def upstream(recorded: Path, *options: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "replay", str(recorded), "--upstream-only", "--port", "0", *options],
        env=environment_with(recorded.parent) | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture
def served(recorded: Path) -> Iterator[Served]:
    """Serve it, with options; gives the base URL."""
    with ExitStack() as started:
        yield lambda *options: started.enter_context(upstream(recorded, *options))


def ask(url: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/chat/completions", json=REQUEST | more, timeout=20)


def test_one_answer_in_so_many_is_an_error(served: Served) -> None:
    url = served("--fault", "error-429", "--fault-every", "3")
    assert [ask(url).status_code for _ in range(6)] == [200, 200, 429, 200, 200, 429]


def test_a_stall_lasts_as_long_as_it_was_told_to(served: Served) -> None:
    url = served("--fault", "stall", "--stall", "0.7")
    begun = time.monotonic()
    assert ask(url).json()["choices"][0]["message"] == ANSWER
    assert time.monotonic() - begun >= 0.7


@pytest.mark.parametrize("fault", ["cut", "stall-body"])
def test_half_an_answer_is_cut(served: Served, fault: str) -> None:
    url = served("--fault", fault, "--stall", "0.3")
    with pytest.raises(httpx.RemoteProtocolError):
        ask(url)


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_may_come_inside_status_200(served: Served, stream: bool) -> None:
    got = ask(served("--fault", "error-event"), stream=stream)
    assert got.status_code == 200
    error = json.loads(got.text.removeprefix("data: "))["error"]
    assert (error["type"], got.text.startswith("data: ")) == ("server_error", stream)


def test_what_is_no_request_is_an_error_as_openais(served: Served) -> None:
    url = served()
    for path, body in (("chat/completions", b"null"), ("responses", b"[1]"), ("files", b"no form")):
        got = httpx.post(f"{url}/{path}", content=body, timeout=20)
        assert (got.status_code, got.json()["error"]["type"]) == (400, "invalid_request_error")


def test_streams_take_their_time(served: Served) -> None:
    url = served("--latency", "0.2", "--token-latency", "0.1")
    begun = time.monotonic()
    events = ask(url, stream=True).text.count("data: ")
    assert events > 2
    assert time.monotonic() - begun >= 0.2 + 0.1 * (events - 1)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--upstream-only", "--fault", "earthquake"], 2, "Invalid value for '--fault'"),
        (["--upstream-only", "--fault", "cut", "--fault-every", "0"], 2, "Invalid value for '--fault-every'"),
        (["--base-url", "http://127.0.0.1:9/v1", "--fault", "cut"], 1, "give one or the other"),
        (["--base-url", "http://127.0.0.1:9/v1", "--upstream-only"], 1, "give one or the other"),
    ],
)
def test_what_cant_be_played_is_said(recorded: Path, options: list[str], status: int, said: str) -> None:
    done = understudy("replay", str(recorded), *options, data_dir=recorded.parent)
    assert done.returncode == status
    [line] = done.stderr.splitlines()
    assert said in line


def test_a_replay_counts_what_came_back(served: Served, recorded: Path, tmp_path: Path) -> None:
    url = served("--fault", "error-500", "--fault-every", "2")
    recorded.write_text(recorded.read_text() * 4)
    done = understudy("replay", str(recorded), "--base-url", url, "--json", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["sent"], counts["failed"], counts["errors"]) == (4, 2, {"500": 2})
    assert counts["served_by"] == {"?": 2}  # that is no proxy
    assert done.stderr.startswith("sending")

"""The real vLLM (CPU build) with a tiny model made here, and a proxy that has learned three tasks from traffic.

Weights hardly matter: structured output makes even a bad model keep a contract. Only the triage adapter is trained
enough to be right, so that its answers tell it from its base.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from proxy.demo import agents
from proxy.demo.servers import await_answer, free_port, vllm_command, vllm_environment
from proxy.replay.recordings import Recording, as_completion
from proxy.replay.upstream import ReplayUpstream
from tests import tiny_models
from tests.conftest import Proxy, running, understudy, wait_for

VENV = Path(__file__).resolve().parents[2] / ".venv-vllm"
START_SECONDS = 240.0
LEARNED = 60
LANGUAGES = ("german", "french", "spanish")
LANGUAGE_DESK = (
    "You are the language desk of a call centre.\nSay which language the guest speaks.\nAnswer with one word."
)
ROOM_CLERK = "You are the clerk who books meeting rooms.\nUse the tool; never answer in words.\nOne booking at a time."
BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Book a room.",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ["blue", "red", "green"]},
                "day": {"type": "string", "enum": ["monday", "tuesday"]},
            },
            "required": ["room", "day"],
            "additionalProperties": False,
        },
    },
}


class Vllm:
    """A real vLLM that can be killed and started again on the same port."""

    def __init__(self, models: Path, log: Path) -> None:
        """Start it; `ready` waits for it.

        Args:
            models: holds `base`, which it serves as `tiny`.
        """
        self._models, self._log, self._port = models, log, free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self.start()

    def start(self) -> None:
        """Start the process."""
        command = vllm_command(VENV / "bin" / "vllm", self._models / "base", self._port)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=vllm_environment(), stdout=output, stderr=output, start_new_session=True
            )

    def ready(self) -> None:
        """Wait until it serves."""
        await_answer(self.url.removesuffix("/v1") + "/health", self._process, self._log, START_SECONDS)

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def models(self) -> dict[str, dict[str, Any]]:
        """What it lists, by name."""
        return {row["id"]: row for row in httpx.get(f"{self.url}/models", timeout=10).json()["data"]}


@pytest.fixture(scope="session")
def models() -> Path:
    """A directory with `base` and the adapter `triage`."""
    if not (VENV / ".ready").exists():
        pytest.skip("vLLM's CPU build is not installed: `make setup` says why")
    return tiny_models.trained()


@pytest.fixture(scope="session")
def vllm(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """Started, and not waited for: starting takes half a minute."""
    server = Vllm(models, tmp_path_factory.mktemp("vllm") / "vllm.log")
    yield server
    server.kill()


class Traffic:
    """The three agents' calls, and what the simulated LLM says to them."""

    def __init__(self) -> None:
        self._triage = agents.TriageLLM()
        self._tickets = agents.tickets(seed=5)
        self._guests = itertools.count()
        bookings = [booking_call(number) for number in range(LEARNED + 20)]
        self.upstream = ReplayUpstream(
            [Recording("chat", call, as_completion(_booked(n), call), 200, None, 0) for n, call in enumerate(bookings)],
            self._answer,
        )
        self.bookings = bookings

    def ticket(self) -> tuple[dict[str, Any], str]:
        """A triage call that nobody has seen, and the right answer."""
        text, answer = next(self._tickets)
        self._triage.expect(text, answer)
        return agents.ticket_call(text), answer

    def guest(self) -> dict[str, Any]:
        """A call of the language desk."""
        number = next(self._guests)
        text = f"Guest {number} says: {('guten Tag', 'bonjour', 'buenas tardes')[number % 3]}, table {number * 7}."
        messages = [{"role": "system", "content": LANGUAGE_DESK}, {"role": "user", "content": text}]
        return {"model": "gpt-4o", "messages": messages, "max_tokens": 10}

    def _answer(self, request: dict[str, Any]) -> str | None:
        if request.get("tools"):
            return None
        messages = request.get("messages") or []
        if messages and messages[0].get("content") == LANGUAGE_DESK:
            return LANGUAGES[int(messages[-1]["content"].split()[1]) % 3]
        return self._triage.answer(request) or "the LLM's answer"


def booking_call(number: int) -> dict[str, Any]:
    """A call of the agent that books rooms with its tool."""
    text = f"Request {number}: team {number * 3 % 17} needs a room with {number % 9} seats."
    messages = [{"role": "system", "content": ROOM_CLERK}, {"role": "user", "content": text}]
    return {"model": "gpt-4o", "messages": messages, "tools": [BOOK], "max_tokens": 400}


def _booked(number: int) -> dict[str, Any]:
    arguments = f'{{"room": "{("blue", "red", "green")[number % 3]}", "day": "{("monday", "tuesday")[number % 2]}"}}'
    call = {"id": f"call_{number}", "type": "function", "function": {"name": "book", "arguments": arguments}}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}


@pytest.fixture(scope="session")
def traffic() -> Iterator[Traffic]:
    traffic = Traffic()
    traffic.upstream.start()
    yield traffic
    traffic.upstream.stop()


@pytest.fixture(scope="session")
def proxy(vllm: Vllm, traffic: Traffic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One worker that has seen the three agents at work and has learned their tasks, from their templates alone."""
    directory = tmp_path_factory.mktemp("proxy")
    settings = {"upstream_url": traffic.upstream.base_url, "slm_url": f"cpu={vllm.url}", "encoder": ""}
    with running(directory, **settings) as proxy:
        with httpx.Client(timeout=30) as client:
            for number in range(LEARNED):
                for call in (traffic.ticket()[0], traffic.guest(), traffic.bookings[number]):
                    assert client.post(f"{proxy.base_url}/chat/completions", json=call).status_code == 200
        wait_for(lambda: proxy.logged() == 3 * LEARNED, START_SECONDS)  # vLLM starts beside it, and takes both cores
        done = understudy("learn", data_dir=proxy.data_dir, encoder="")
        assert done.returncode == 0, done.stderr
        wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
        vllm.ready()
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> OpenAI:
    """The official client, pointed at the proxy."""
    return OpenAI(base_url=proxy.base_url, api_key="x", max_retries=0)

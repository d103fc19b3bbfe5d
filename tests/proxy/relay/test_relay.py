"""The relay where the proxy itself is at fault."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from starlette.types import Message

from proxy.auth import Gate
from proxy.metrics import Metrics
from proxy.relay.recorder import Recorder
from proxy.relay.relay import Relay
from proxy.settings import Settings
from storage.cipher import Cipher
from storage.spool import Spool, spool_usage


class Faulty:
    """An LLM client with a mistake in it."""

    authorization = None

    async def ask(self, *arguments: object) -> None:
        """As `proxy.transport.upstreams.Llm.ask`."""
        raise ZeroDivisionError("a mistake")


class Client:
    """Sends one request, waits, and keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self._has_sent = False

    async def receive(self) -> Message:
        """ASGI."""
        if self._has_sent:
            await asyncio.get_running_loop().create_future()
        self._has_sent = True
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(self, message: Message) -> None:
        """ASGI."""
        self.got.append(message)


async def test_a_fault_of_the_proxys_own_is_an_error_in_openais_shape_and_logged(tmp_path: Path) -> None:
    cipher, metrics = Cipher.open(tmp_path), Metrics()
    spool = Spool(tmp_path / "spool", cipher)
    state: Any = SimpleNamespace(
        settings=Settings(), recorder=Recorder(spool, metrics, cipher, "full"), gate=Gate("t"), llm=Faulty()
    )  # fmt: skip
    scope = {"method": "POST", "raw_path": b"/v1/embeddings", "query_string": b"", "headers": []}
    client = Client()
    await Relay(state)(scope, client.receive, client.send)
    start, body = client.got
    assert (start["status"], orjson.loads(body["body"])["error"]["code"]) == (500, "internal_error")
    spool.close()
    assert spool_usage(tmp_path / "spool")[0] > 0
    assert metrics.registry.get_sample_value(
        "understudy_calls_total", {"endpoint": "embeddings", "served_by": "llm", "status": "5xx"}
    )

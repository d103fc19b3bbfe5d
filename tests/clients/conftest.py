"""One proxy in front of one simulated provider, for all official clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.replay.recordings import read_recordings
from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, running

CITY = {"name": "Oslo", "country": "Norway", "population": 709037}


def answer(request: dict[str, Any]) -> str | None:
    """Text for chats; JSON where a form was asked for; tools and responses are recorded."""
    if "messages" not in request or request.get("tools"):
        return None
    if request.get("response_format"):
        return json.dumps(CITY)
    return f"You said: {request['messages'][-1]['content']}"


@pytest.fixture(scope="package")
def provider() -> Iterator[ReplayUpstream]:
    """The simulated provider."""
    server = ReplayUpstream(read_recordings(Path(__file__).parent / "recordings.jsonl"), answer)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def proxy(provider: ReplayUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The product."""
    with running(tmp_path_factory.mktemp("clients"), upstream_url=provider.base_url) as started:
        yield started

"""The one state object of a worker: everything that lives as long as it does."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from proxy.attempts import SlmTransport
from proxy.auth import Gate
from proxy.copies import Copies
from proxy.metrics import Metrics
from proxy.recorder import Recorder
from proxy.runs import Runs
from proxy.serving import Serving
from proxy.settings import Settings
from proxy.upstreams import Llm
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.spool import Spool


@dataclass(frozen=True, slots=True)
class State:
    """What endpoints and the relay receive; nothing else is shared between them."""

    settings: Settings
    metrics: Metrics
    cipher: Cipher
    spool: Spool
    recorder: Recorder
    database: Database
    artifacts: ArtifactStore
    serving: Serving
    session: aiohttp.ClientSession
    llm: Llm
    slm: SlmTransport
    copies: Copies
    gate: Gate
    runs: Runs

    @property
    def llm_authorization(self) -> bytes | None:
        """What replaces the client's own `Authorization` at the LLM."""
        key = self.settings.upstream_api_key
        return None if key is None else f"Bearer {key}".encode()

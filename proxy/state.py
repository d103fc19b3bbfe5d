"""The one state object of a worker: everything that lives as long as it does."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from proxy.auth import Gate
from proxy.metrics import Metrics
from proxy.relay.copies import Copies
from proxy.relay.recorder import Recorder
from proxy.runs.queue import Runs
from proxy.serving import Serving
from proxy.settings import Settings
from proxy.slm.attempts import SlmTransport
from proxy.transport.upstreams import Llm
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

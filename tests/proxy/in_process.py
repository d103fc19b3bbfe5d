"""The app in this process, without workers, and what a test puts into its database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from proxy.app import Front, create_app
from proxy.promotion.proof import subject_today
from proxy.settings import load_settings
from proxy.state import State
from storage.records import CallFacts, CallRecord
from storage.repositories import clusters
from storage.repositories.calls import insert_calls
from storage.repositories.certificates import add_certificate
from tests.proxy.certificates import certificate_of

TOKEN = "test-token"


class InProcess:
    """A running app.

    Attributes:
        client: whose requests reach it.
    """

    def __init__(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.app = app
        self.state: State = app.state.understudy
        self.client = client

    def learn(self, **values: Any) -> None:
        """Put one task in the database, `c-1`."""
        given = {
            "cluster_id": "c-1", "snapshot_id": "s", "label": "triage desk", "contract": {"kind": "label"},
            "skeleton": "You are the desk", "calls": 3, "conversations": 3, "examples": [],
        } | values  # fmt: skip
        with self.state.database.write() as session:
            clusters.activate_snapshot(session, self.state.cipher, "s", 3, [clusters.StoredCluster(**given)])

    def certify(self, model: str, **changes: Any) -> int:
        """Keep a certificate on `c-1` that is valid today, but for `changes`; returns its number."""
        with self.state.database.write() as session:
            subject = subject_today(session, self.state.cipher, "c-1", model, "main", None)
            certificate = certificate_of(subject, **changes)
            row = add_certificate(session, "c-1", model, certificate.issued_at, certificate.to_json())
            return row.certificate_id

    def insert(self, call_id: bytes, facts: CallFacts, **values: Any) -> None:
        """Log one call, answered by the LLM but for `values`."""
        given = {
            "arrived_at_ns": 1_750_000_000 * 10**9, "method": "POST", "path": "/v1/chat/completions",
            "endpoint": "chat", "status": 200, "served_by": "llm", "upstream": "llm", "reason": "unknown_task",
            "duration_ms": 10.0, "first_token_ms": 5.0, "ended": "finished", "origin": b"o" * 16,
        } | values  # fmt: skip
        with self.state.database.write() as session:
            insert_calls(session, self.state.cipher, [(CallRecord(call_id=call_id, **given), facts)])


@asynccontextmanager
async def app_with_client(data_dir: Path, **client: Any) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """Start the app, and a client of it.

    Args:
        client: arguments of the client's.
    """
    settings = load_settings(
        {}, data_dir=data_dir, admin_token=TOKEN, encoder="", slm_gpu_usd_per_hour=2.0,
        slm_url="main=http://127.0.0.1:9/v1",
    )  # fmt: skip
    front = create_app(settings)
    assert isinstance(front, Front)
    app = front._app
    transport = httpx.ASGITransport(front, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, **client) as opened:
        yield app, opened

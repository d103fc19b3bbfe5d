"""The console in this process, with what a test puts into its database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import Front, create_app
from proxy.auth import Role
from proxy.console.session import Sessions
from proxy.keys import KeyWish, create_key
from proxy.promotion.proof import subject_today
from proxy.settings import load_settings
from proxy.transport.headers import SESSION_COOKIE
from storage.ids import format_call_id, new_call_id
from storage.models import ModelRow
from storage.records import Attempt, CallFacts, CallRecord
from storage.repositories import clusters, registry
from storage.repositories.calls import insert_calls
from storage.repositories.certificates import add_certificate
from tests.proxy.certificates import certificate_of

TOKEN = "test-token"
HOST = "http://127.0.0.1:8000"


class Console:
    """An app, and a browser's place in it."""

    def __init__(self, app: Front, client: httpx.AsyncClient) -> None:
        self.app = app._app
        self.state = app._app.state.understudy
        self.client = client

    def cookie(self, role: Role = Role.ADMIN) -> str:
        """Of somebody who is logged in: with the admin token, or with a key that has less."""
        token = TOKEN
        if role is not Role.ADMIN:
            token, _ = create_key(self.state.database, self.state.cipher, KeyWish("somebody", role), "a test")
            self.state.serving.refresh()
        return Sessions(self.state.gate, self.state.cipher, self.state.serving.keys).begin(token)

    def log_in(self, role: Role = Role.ADMIN) -> None:
        """From now on the client is somebody."""
        self.client.cookies.set(SESSION_COOKIE, self.cookie(role), domain="127.0.0.1")

    async def page(self, path: str, status: int = 200) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return answer.text

    async def send(self, path: str, status: int = 303, **fields: str) -> httpx.Response:
        """A form of this session's own."""
        said = await self.page("/audit")
        [token] = set(re.findall(r'name="form_token" value="(\w+)"', said))
        answer = await self.client.post(path, data={"form_token": token} | fields)
        assert answer.status_code == status, answer.text
        return answer

    def log(self, *, cost_usd: float | None = 1.0, attempts: tuple[Attempt, ...] = (), **values: Any) -> str:
        """One call; returns its id."""
        facts = CallFacts(model_requested="gpt-4o", cost_usd=cost_usd, input_tokens=20, output_tokens=3)
        given = {
            "arrived_at_ns": 1_750_000_000 * 10**9, "method": "POST", "path": "/v1/chat/completions",
            "endpoint": "chat", "status": 200, "served_by": "llm", "upstream": "llm", "reason": "unknown_task",
            "duration_ms": 100.0, "first_token_ms": 40.0, "ended": "finished", "origin": b"o" * 16,
            "request_body": b'{"model": "gpt-4o",  "messages": [{"role": "user", "content": "What is it?"}]}',
            "response_body": b'{"choices": [{"message": {"role": "assistant", "content": "It is that."}}]}',
            "response_content_type": "application/json",
        } | values  # fmt: skip
        call_id = new_call_id()
        with self.state.database.write() as session:
            record = CallRecord(call_id=call_id, attempts=list(attempts), **given)
            insert_calls(session, self.state.cipher, [(record, facts)])
        return format_call_id(call_id)

    def learn(self, **values: Any) -> None:
        """Put one task in the database, `c-1`."""
        given = {
            "cluster_id": "c-1", "snapshot_id": "s", "label": "triage desk", "contract": {"kind": "label"},
            "skeleton": "You are the desk", "calls": 3, "conversations": 3, "examples": [],
        } | values  # fmt: skip
        with self.state.database.write() as session:
            clusters.activate_snapshot(session, self.state.cipher, "s", 3, [clusters.StoredCluster(**given)])

    def register(self, name: str) -> None:
        with self.state.database.write() as session:
            row = ModelRow(name=name, slm="main", adapter=None, base=None, created_at=datetime.now(UTC))
            registry.register_model(session, row)

    def certify(self, model: str, **changes: Any) -> None:
        """Keep a certificate on `c-1` that is valid today, but for `changes`."""
        with self.state.database.write() as session:
            subject = subject_today(session, self.state.cipher, "c-1", model, "main", None)
            certificate = certificate_of(subject, **changes)
            add_certificate(session, "c-1", model, certificate.issued_at, certificate.to_json())


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    settings = load_settings(
        {}, data_dir=tmp_path, admin_token=TOKEN, encoder="", slm_gpu_usd_per_hour=2.0,
        slm_url="main=http://127.0.0.1:9/v1",
    )  # fmt: skip
    app = create_app(settings)
    assert isinstance(app, Front)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app._app.router.lifespan_context(app._app),
        httpx.AsyncClient(transport=transport, base_url=HOST) as client,
    ):
        yield Console(app, client)

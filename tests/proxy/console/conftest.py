"""The console in this process, with what a test puts into its database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.auth import Role
from proxy.console.session import Sessions
from proxy.keys import KeyWish, create_key
from proxy.transport.headers import SESSION_COOKIE
from storage.ids import format_call_id, new_call_id
from storage.models import ModelRow
from storage.records import Attempt, CallFacts
from storage.repositories import registry
from tests.proxy.in_process import TOKEN, InProcess, app_with_client

HOST = "http://127.0.0.1:8000"


class Console(InProcess):
    """An app, and a browser's place in it."""

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
            "duration_ms": 100.0, "first_token_ms": 40.0, "response_content_type": "application/json",
            "request_body": b'{"model": "gpt-4o",  "messages": [{"role": "user", "content": "What is it?"}]}',
            "response_body": b'{"choices": [{"message": {"role": "assistant", "content": "It is that."}}]}',
        } | values  # fmt: skip
        call_id = new_call_id()
        self.insert(call_id, facts, attempts=list(attempts), **given)
        return format_call_id(call_id)

    def register(self, name: str) -> None:
        with self.state.database.write() as session:
            row = ModelRow(name=name, slm="main", adapter=None, base=None, created_at=datetime.now(UTC))
            registry.register_model(session, row)


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with app_with_client(tmp_path, base_url=HOST) as (app, client):
        yield Console(app, client)

"""A second answer to a call, after the first: who is asked, what is kept, and everything that stops it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import Front, create_app
from proxy.relay.copies import CLOSE_SECONDS, WAITING_FOR_EACH
from proxy.settings import load_settings
from proxy.state import State
from router.promotion import Stage
from storage.frame import Damage
from storage.records import CallRecord, CopyFacts, CopyRecord
from storage.repositories.copies import insert_copies
from storage.spool import decode_segment, segments
from tests.integration.scripted import Scripted, answer, chunked
from tests.promoted import put_in_force
from tests.proxy.fake_vllm import FakeVllm
from tests.router.conftest import TRIAGE, triage_text

PATIENCE_SECONDS = 10.0
KEY = "sk-the-clients-own-key"
COMPLETION = {
    "id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "billing"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 90, "completion_tokens": 1, "total_tokens": 91},
}  # fmt: skip
ANSWER = answer(json.dumps(COMPLETION).encode())
STREAM = [
    b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"billing"}}]}\n\n',
    b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
TOOL_LOOP = [
    {"role": "system", "content": TRIAGE}, {"role": "user", "content": triage_text(1)},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "an invoice"},
]  # fmt: skip


class House:
    """A worker's app in this process, between an SLM and an LLM on real sockets."""

    def __init__(self, app: Front, client: httpx.AsyncClient, slm: FakeVllm, llm: Scripted) -> None:
        self.state: State = app._app.state.understudy
        self.client, self.slm, self.llm = client, slm, llm
        self._number = 0

    async def ask(self, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """A triage call."""
        self._number += 1
        messages = [{"role": "system", "content": TRIAGE}, {"role": "user", "content": triage_text(self._number)}]
        body = {"model": "gpt-4o", "messages": messages} | fields
        sent = {"authorization": f"Bearer {KEY}"} | (headers or {})
        return await self.client.post("/v1/chat/completions", json=body, headers=sent)

    def records(self) -> list[CallRecord | CopyRecord]:
        """What is in the spool."""
        paths = segments(self.state.settings.spool_dir)
        return [one for path in paths for one in decode_segment(path.read_bytes(), self.state.cipher, Damage())]

    def copies(self) -> list[CopyRecord]:
        return [record for record in self.records() if isinstance(record, CopyRecord)]

    async def copy(self) -> CopyRecord:
        """The only copy, once it is there."""
        await until(lambda: self.copies())
        [copied] = self.copies()
        return copied

    def counted(self, kind: str, outcome: str) -> float:
        sample = f'understudy_copies_total{{kind="{kind}",outcome="{outcome}"}} '
        lines = self.state.metrics.render().decode().splitlines()
        return next((float(line.removeprefix(sample)) for line in lines if line.startswith(sample)), 0.0)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
def slm() -> Iterator[FakeVllm]:
    with FakeVllm() as slm:
        slm.adapters["m"] = "/adapters/m"
        slm.message = {"content": "billing"}
        yield slm


@pytest.fixture
def llm() -> Iterator[Scripted]:
    with Scripted() as llm:
        yield llm


Build = Callable[..., Any]


@pytest.fixture
async def build(tmp_path: Path, slm: FakeVllm, llm: Scripted) -> AsyncIterator[Build]:
    """Starts a house with a promotion in force."""
    async with AsyncExitStack() as stack:

        async def start(
            stage: Stage,
            *,
            share: float = 1.0,
            audit_share: float | None = None,
            in_doubt: bool = False,
            **settings: Any,
        ) -> House:
            chosen = {"copies_at_once": 2, "audit_share": 1.0, "slm_timeout_seconds": 30.0} | settings
            configured = load_settings(
                {}, data_dir=tmp_path, admin_token="t", encoder="", slm_url=f"gpu={slm.url}",
                upstream_url=llm.base_url, **chosen,
            )  # fmt: skip
            put_in_force(tmp_path, stage, share=share, audit_share=audit_share, in_doubt=in_doubt)
            app = create_app(configured)
            assert isinstance(app, Front)
            await stack.enter_async_context(app._app.router.lifespan_context(app._app))
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://test"))
            return House(app, client, slm, llm)

        yield start


async def test_a_shadow_answers_as_it_would_in_production(build: Build) -> None:
    house = await build(Stage.SHADOW)
    house.llm.will(*ANSWER)
    served = await house.ask()
    assert served.headers["x-understudy-reason"] == "shadow_only"
    assert served.headers["x-understudy-served-by"] == "llm"
    copied = await house.copy()
    assert (copied.kind, copied.outcome, copied.status) == ("shadow", "answered", 200)
    assert copied.confidence == pytest.approx(0.99)
    assert (copied.slm, copied.model, copied.promotion_id) == ("gpu", "m", 1)
    assert json.loads(copied.answer)["choices"][0]["message"]["content"] == "billing"
    assert house.slm.seen["logprobs"] is True
    assert house.slm.seen["structured_outputs"]
    [call] = [record for record in house.records() if isinstance(record, CallRecord)]
    assert copied.call_id == call.call_id
    assert house.counted("shadow", "answered") == 1
    assert len(house.llm.requests) == 1


async def test_a_shadow_that_would_not_have_been_served_says_why(build: Build) -> None:
    house = await build(Stage.SHADOW)
    house.slm.message = {"content": "no such team"}
    await house.ask()
    copied = await house.copy()
    assert (copied.outcome, copied.status) == ("output_invalid", 200)
    assert copied.confidence == pytest.approx(0.99)
    assert b"no such team" in copied.answer


async def test_a_streaming_clients_call_is_copied_whole(build: Build) -> None:
    house = await build(Stage.SHADOW)
    house.llm.will(*chunked(STREAM))
    assert "[DONE]" in (await house.ask(stream=True)).text
    copied = await house.copy()
    assert (copied.outcome, copied.content_type.partition(";")[0]) == ("answered", "text/event-stream")


async def test_a_tool_loop_that_the_llm_began_is_rehearsed_too(build: Build) -> None:
    house = await build(Stage.SHADOW)
    assert (await house.ask(messages=TOOL_LOOP)).headers["x-understudy-reason"] == "tool_loop_held"
    assert (await house.copy()).kind == "shadow"


async def test_what_a_canary_holds_back_is_shadowed_and_what_it_serves_is_audited(build: Build) -> None:
    house = await build(Stage.CANARY, share=0.5)
    reasons = [(await house.ask()).headers["x-understudy-reason"] for _ in range(12)]
    await until(lambda: len(house.copies()) == 12)
    kinds = [copied.kind for copied in house.copies()]
    assert kinds.count("shadow") == reasons.count("canary_held_back") > 0
    assert kinds.count("audit") == reasons.count("matched") > 0


async def test_in_doubt_the_llm_answers_and_the_slm_in_its_shadow_whatever_the_shadows_share(build: Build) -> None:
    house = await build(Stage.LIVE, in_doubt=True, shadow_share=0.0)
    house.llm.will(*ANSWER)
    served = await house.ask()
    assert (served.headers["x-understudy-served-by"], served.headers["x-understudy-reason"]) == ("llm", "in_doubt")
    copied = await house.copy()
    assert (copied.kind, copied.outcome) == ("shadow", "answered")


async def test_in_doubt_later_turns_are_shadowed_too_though_the_llm_began_their_loop(build: Build) -> None:
    house = await build(Stage.LIVE, in_doubt=True)
    assert (await house.ask(messages=TOOL_LOOP)).headers["x-understudy-reason"] == "tool_loop_held"
    assert (await house.copy()).kind == "shadow"


async def test_without_doubt_what_a_live_slm_must_leave_to_the_llm_is_not_shadowed(build: Build) -> None:
    house = await build(Stage.LIVE)
    await house.ask(messages=TOOL_LOOP)
    await house.ask()
    assert (await house.copy()).kind == "audit"


async def test_in_doubt_no_more_is_shadowed_than_is_audited(build: Build) -> None:
    house = await build(Stage.LIVE, in_doubt=True, audit_share=0.0)
    for _ in range(5):
        await house.ask()
    assert house.slm.seen == {}


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ((b"boom",), "500 Internal Server Error"),
        ((b"slow down",), "429 Too Many Requests"),
    ],
)
async def test_only_what_the_llm_answered_whole_is_shadowed(build: Build, said: Any, wanted: str) -> None:
    house = await build(Stage.SHADOW)
    house.llm.will(*answer(*said, status=wanted))
    await house.ask()
    house.llm.will(*answer(b"{", status="200 OK")[:1])
    await house.ask()
    assert (await house.copy()).kind == "shadow"  # of the second


@pytest.mark.parametrize("level", ["metadata", "off"])
async def test_who_wants_nothing_kept_is_not_copied(build: Build, level: str) -> None:
    house = await build(Stage.SHADOW)
    await house.ask({"x-understudy-log": level})
    await house.ask()
    await house.copy()
    assert house.counted("shadow", "answered") == 1


async def test_no_share_no_copies(build: Build) -> None:
    house = await build(Stage.SHADOW, shadow_share=0.0)
    for _ in range(5):
        await house.ask()
    assert house.slm.seen == {}


async def test_an_audit_sends_the_llm_what_the_client_sent(build: Build) -> None:
    house = await build(Stage.LIVE)
    house.llm.will(*ANSWER)
    served = await house.ask({"x-stainless-lang": "python", "accept-encoding": "br", "x-understudy-agent": "desk"})
    assert served.headers["x-understudy-served-by"] == "slm"
    copied = await house.copy()
    assert (copied.kind, copied.outcome, copied.status) == ("audit", "answered", 200)
    [(head, body)] = house.llm.requests
    assert body == served.request.content == copied.request_body
    assert f"authorization: Bearer {KEY}".encode() in head
    assert b"x-stainless-lang: python" in head
    assert b"x-understudy" not in head
    assert b"accept-encoding" not in head
    written = b"".join(path.read_bytes() for path in house.state.settings.data_dir.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert all(KEY not in repr(record) for record in house.records())


async def test_a_configured_key_goes_to_the_llm_in_the_place_of_the_clients(build: Build) -> None:
    house = await build(Stage.LIVE, upstream_api_key="sk-ours")
    await house.ask()
    await house.copy()
    [(head, _)] = house.llm.requests
    assert b"authorization: Bearer sk-ours" in head
    assert KEY.encode() not in head


async def test_a_promotions_own_audit_share_wins(build: Build) -> None:
    house = await build(Stage.LIVE, audit_share=0.0)
    for _ in range(5):
        await house.ask()
    assert house.llm.requests == []


async def test_what_an_operator_forced_is_not_audited(build: Build) -> None:
    house = await build(Stage.LIVE)
    forced = await house.ask({"x-understudy-route": "slm", "authorization": "Bearer t"})
    assert forced.headers["x-understudy-served-by"] == "slm"
    assert house.llm.requests == []


async def test_a_429_pauses_audits_and_is_no_verdict(build: Build) -> None:
    house = await build(Stage.LIVE)
    house.llm.will(*answer(b'{"error":{}}', status="429 Too Many Requests", retry_after="60"))
    await house.ask()
    copied = await house.copy()
    assert (copied.outcome, copied.status) == ("llm_error", 429)
    assert (await house.ask()).headers["x-understudy-served-by"] == "slm"
    await until(lambda: house.counted("audit", "paused") == 1)
    assert len(house.llm.requests) == 1


async def test_an_llm_that_is_dead_or_breaks_off_is_told_from_one_that_answers(build: Build) -> None:
    house = await build(Stage.LIVE)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    house.llm.will(head, STREAM[0], then="close")  # no final event, and no length: who knows whether it is whole
    await house.ask()
    await until(lambda: house.counted("audit", "llm_error") == 1)
    house.llm.will(head, *STREAM, then="close")
    await house.ask()
    await until(lambda: house.counted("audit", "answered") == 1)
    house.llm.will(then="reset")
    await house.ask()
    await until(lambda: house.counted("audit", "llm_error") == 2)
    assert [copied.status for copied in house.copies()] == [200, 200, None]


async def test_copies_are_few_and_the_rest_is_let_go(build: Build) -> None:
    house = await build(Stage.SHADOW, copies_at_once=2)
    house.slm.fault = "stall"
    waiting = 2 * WAITING_FOR_EACH
    for _ in range(2 + waiting + 3):
        assert (await house.ask()).status_code == 200
    assert house.counted("shadow", "queue_full") == 3
    assert house.copies() == []


async def test_at_the_end_nobody_waits_long_for_copies(build: Build) -> None:
    house = await build(Stage.SHADOW, copies_at_once=1)
    house.slm.fault = "stall"
    for _ in range(3):
        await house.ask()
    await until(lambda: house.slm.seen)
    async with asyncio.timeout(CLOSE_SECONDS + PATIENCE_SECONDS):
        await house.state.copies.close()
    assert house.counted("shadow", "shutting_down") == 3
    await house.ask()
    assert house.counted("shadow", "shutting_down") == 4


async def test_a_spent_days_budget_ends_copies(build: Build) -> None:
    house = await build(Stage.SHADOW, copy_usd_per_day=1.0)
    spent = CopyRecord(
        copy_id=b"c" * 16, kind="audit", call_id=b"a" * 16, at_ns=int(datetime.now(UTC).timestamp() * 1e9),
        endpoint="chat", cluster_id="c", promotion_id=1, slm="gpu", model="m", outcome="answered", status=200,
        duration_ms=1.0,
    )  # fmt: skip
    with house.state.database.write() as session:
        insert_copies(session, house.state.cipher, [(spent, CopyFacts(cost_usd=1.01))])
    await house.ask()
    await until(lambda: house.counted("shadow", "over_budget") == 1)
    assert house.slm.seen == {}


async def test_without_a_database_nobody_knows_the_budget_and_no_copies_are_made(build: Build) -> None:
    house = await build(Stage.SHADOW)
    (house.state.settings.data_dir / "understudy.db").unlink()
    (house.state.settings.data_dir / "understudy.db").mkdir()
    assert (await house.ask()).status_code == 200
    await until(lambda: house.counted("shadow", "over_budget") == 1)
    assert house.slm.seen == {}

"""One try at an SLM: what is asked of it, what is served of its answer, and each way in which it gives way.

The server is a small one on a real socket that fails as vLLM does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.slm.attempts import Declined, Served
from proxy.slm.breaker import FIRST_PAUSE_SECONDS, OPEN_AFTER_FAILURES
from proxy.slm.client import SlmClient, mean_probability
from proxy.transport.upstreams import open_session
from proxy.wire.endpoint import Endpoint
from router.contract import ContractKind, OutputContract
from router.decision import Decision, Reason
from router.features import read_chat, read_responses
from router.promotion import Promotion, Stage
from tests.proxy.fake_vllm import FakeVllm

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["refund", "stock"]}},
    "required": ["label"],
    "additionalProperties": False,
}
JSON = OutputContract(ContractKind.JSON, schema=SCHEMA)
LABEL = OutputContract(ContractKind.LABEL, labels=("refund", "stock"))
TEXT = OutputContract(ContractKind.TEXT, min_chars=2, max_chars=20)
TOOL = OutputContract(ContractKind.TOOL_CALL, tools={"sort": SCHEMA}, parallel=False)
TOOLS = [{"type": "function", "function": {"name": "sort", "parameters": SCHEMA}}]
RIGHT = '{"label":"refund"}'
PROMOTION = Promotion("c-1", "triage", Stage.LIVE, 1.0, "gpu", "/adapters/triage", 1024)


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as server:
        server.adapters["triage"] = "/adapters/triage"
        server.message = {"content": RIGHT}
        yield server


class Slm:
    """The transport under test, with the calls that tests make of it."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self.metrics = Metrics()
        self.missing: list[Promotion] = []
        self._client = SlmClient(session, settings, self.metrics, self.missing.append)

    async def chat(
        self, contract: OutputContract = JSON, seconds: float = 30.0, promotion: Promotion = PROMOTION, **fields: Any
    ) -> Served | Declined:
        """One chat call."""
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Where is my money?"}], **fields}
        return await self._attempt(Endpoint.CHAT, body, contract, seconds, promotion)

    async def responses(self, contract: OutputContract = JSON, **fields: Any) -> Served | Declined:
        """One call of the Responses API."""
        body = {"model": "gpt-4o", "input": "Where is my money?", "store": False, **fields}
        return await self._attempt(Endpoint.RESPONSES, body, contract, 30.0)

    async def _attempt(
        self,
        endpoint: Endpoint,
        body: dict[str, Any],
        contract: OutputContract,
        seconds: float,
        promotion: Promotion = PROMOTION,
    ) -> Served | Declined:
        features = read_chat(body) if endpoint is Endpoint.CHAT else read_responses(body)
        decision = Decision(Reason.MATCHED, promotion, contract, "c-1")
        deadline = asyncio.get_running_loop().time() + seconds
        return await self._client.attempt(endpoint, body, features, decision, deadline)

    def is_up(self) -> bool:
        return 'understudy_slm_up{slm="gpu"} 1.0' in self.metrics.render().decode()


@pytest.fixture
async def slm(server: FakeVllm) -> AsyncIterator[Slm]:
    settings = Settings(slm_url={"gpu": server.url}, slm_timeout_seconds=0.4, slm_min_confidence=0.5)
    async with open_session(settings) as session:
        yield Slm(session, settings)


def served(outcome: Served | Declined) -> dict[str, Any]:
    """The body of an answer that is fit to be served."""
    assert isinstance(outcome, Served), outcome
    assert isinstance(outcome.body, bytes)
    body: dict[str, Any] = orjson.loads(outcome.body)
    return body


async def test_a_right_answer_is_served_in_openais_own_shape(slm: Slm) -> None:
    outcome = await slm.chat()
    assert served(outcome) == {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "triage",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": RIGHT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }  # fmt: skip
    assert isinstance(outcome, Served)
    assert (outcome.model, outcome.upstream) == ("triage", "gpu")
    assert outcome.confidence == pytest.approx(0.99)


async def test_the_slm_gets_what_shapes_the_answer_and_the_contract(slm: Slm, server: FakeVllm) -> None:
    await slm.chat(temperature=0, max_completion_tokens=9, user="u", metadata={}, stream=True, reasoning_effort="low")
    assert (server.seen["model"], server.seen["temperature"], server.seen["max_tokens"]) == ("triage", 0, 9)
    assert server.seen["response_format"]["json_schema"]["schema"] == SCHEMA
    assert server.seen["logprobs"] is True
    assert not {"user", "metadata", "stream", "reasoning_effort", "max_completion_tokens"} & server.seen.keys()
    server.message = {"content": "refund"}
    await slm.chat(LABEL)
    assert server.seen["structured_outputs"] == {"choice": ["refund", "stock"]}


async def test_a_server_that_refuses_vllms_own_fields_is_asked_without_them(slm: Slm, server: FakeVllm) -> None:
    server.fault = "no-extras"
    server.message = {"content": "refund"}
    assert served(await slm.chat(LABEL))
    assert "structured_outputs" not in server.seen
    server.message = {"content": "a refund, I think"}
    outcome = await slm.chat(LABEL)
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.OUTPUT_INVALID


FAULTS = {
    "reset": Reason.SLM_ERROR,
    "cut": Reason.SLM_ERROR,
    "stall": Reason.SLM_TIMEOUT,
    "stall-body": Reason.SLM_TIMEOUT,
    "redirect": Reason.SLM_ERROR,
    "garbage": Reason.SLM_ERROR,
    "no-object": Reason.SLM_ERROR,
    "unauthorized": Reason.SLM_ERROR,
    "lost": Reason.SLM_ERROR,
    "busy": Reason.SLM_ERROR,
    "engine-dead": Reason.SLM_ERROR,
    "bad-request": Reason.SLM_ERROR,
    "unknown-model": Reason.SLM_UNAVAILABLE,
    "pinned": Reason.SLM_UNAVAILABLE,
    "too-long": Reason.CONTEXT_TOO_LONG,
    "max-tokens": Reason.CONTEXT_TOO_LONG,
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
async def test_each_fault_gives_way_with_its_reason(slm: Slm, server: FakeVllm, fault: str, reason: Reason) -> None:
    server.fault = fault
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is reason
    assert (outcome.attempt.upstream, outcome.attempt.model, outcome.attempt.outcome) == ("gpu", "triage", reason.value)
    server.fault = ""
    assert served(await slm.chat())


async def test_a_dead_server_gives_way_at_once(slm: Slm, server: FakeVllm) -> None:
    server.die()
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.SLM_ERROR
    assert outcome.attempt.duration_ms < 300


async def test_the_calls_own_deadline_is_kept_where_it_is_shorter(slm: Slm, server: FakeVllm) -> None:
    server.fault = "stall"
    outcome = await slm.chat(seconds=0.05)
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.SLM_TIMEOUT
    assert outcome.attempt.duration_ms < 300


UNFIT: dict[str, tuple[OutputContract, dict[str, Any], str]] = {
    "no JSON": (JSON, {"content": "refund"}, "stop"),
    "another label": (JSON, {"content": '{"label":"praise"}'}, "stop"),
    "empty": (JSON, {"content": ""}, "stop"),
    "no content": (JSON, {"content": None}, "stop"),
    "content of parts": (JSON, {"content": [{"type": "text", "text": RIGHT}]}, "stop"),
    "cut by max_tokens": (JSON, {"content": RIGHT}, "length"),
    "no finish": (JSON, {"content": RIGHT}, ""),
    "no label": (LABEL, {"content": "none"}, "stop"),
    "too short a text": (TEXT, {"content": "a"}, "stop"),
    "too long a text": (TEXT, {"content": "a" * 21}, "stop"),
    "a tool call for a text": (TEXT, {"tool_calls": [{"function": {"name": "sort", "arguments": "{}"}}]}, "tool_calls"),
    "a text for a tool call": (TOOL, {"content": RIGHT}, "stop"),
    "another tool": (TOOL, {"tool_calls": [{"function": {"name": "drop", "arguments": RIGHT}}]}, "tool_calls"),
    "other arguments": (TOOL, {"tool_calls": [{"function": {"name": "sort", "arguments": "7"}}]}, "tool_calls"),
    "a call without a function": (TOOL, {"tool_calls": [{}]}, "tool_calls"),
    "calls that are no list": (TOOL, {"tool_calls": "sort"}, "tool_calls"),
    "a call that is no object": (TOOL, {"tool_calls": ["sort"]}, "tool_calls"),
    "two calls": (TOOL, {"tool_calls": [{"function": {"name": "sort", "arguments": RIGHT}}] * 2}, "tool_calls"),
}


@pytest.mark.parametrize(("contract", "message", "finish_reason"), UNFIT.values(), ids=list(UNFIT))
async def test_an_answer_that_breaks_its_contract_is_not_served(
    slm: Slm, server: FakeVllm, contract: OutputContract, message: dict[str, Any], finish_reason: str
) -> None:
    server.message, server.finish_reason = message, finish_reason
    outcome = await slm.chat(contract, tools=TOOLS)
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.OUTPUT_INVALID
    assert orjson.loads(outcome.attempt.answer)["usage"]["completion_tokens"] == 3  # what it cost is known
    assert slm.is_up()


MALFORMED = {
    "an error inside 200": {"error": {"message": "the engine died", "code": 500}},
    "no choices": {"choices": []},
    "choices that are no list": {"choices": {"0": 1}},
    "a choice that is no object": {"choices": ["x"]},
    "a choice without a message": {"choices": [{"finish_reason": "stop"}]},
    "a message that is no object": {"choices": [{"message": "x", "finish_reason": "stop"}]},
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=list(MALFORMED))
async def test_a_malformed_completion_is_not_served(slm: Slm, server: FakeVllm, answer: object) -> None:
    server.answer = answer
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.OUTPUT_INVALID


async def test_strange_usage_is_no_reason_to_refuse_an_answer(slm: Slm, server: FakeVllm) -> None:
    choice = {"message": {"content": RIGHT}, "finish_reason": "stop", "logprobs": {"content": [{"logprob": 0.0}]}}
    for usage in ("many", [1], {"prompt_tokens": None}):
        server.answer = {"choices": [choice], "usage": usage, "created": None, "id": 7}
        assert served(await slm.chat())["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


async def test_an_unsure_answer_is_not_served(slm: Slm, server: FakeVllm) -> None:
    server.probability = 0.45
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.LOW_CONFIDENCE
    server.probability = 0.55
    assert served(await slm.chat())


async def test_without_log_probabilities_nobody_knows_whether_it_was_sure(slm: Slm, server: FakeVllm) -> None:
    server.answer = {"choices": [{"message": {"content": RIGHT}, "finish_reason": "stop", "logprobs": None}]}
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.LOW_CONFIDENCE


@pytest.mark.parametrize(
    ("certified", "operators", "probability", "reason"),
    [
        (0.8, 0.5, 0.79, Reason.LOW_CONFIDENCE),
        (0.8, 0.5, 0.81, None),
        (0.3, 0.5, 0.49, Reason.LOW_CONFIDENCE),
        (0.3, 0.5, 0.51, None),
        (0.8, 0.0, 0.79, Reason.LOW_CONFIDENCE),
        (None, 0.0, 0.01, None),
        (0.0, 0.0, 0.01, None),
    ],
)
async def test_the_stricter_of_the_certificates_and_the_operators_confidence_rules(
    server: FakeVllm, certified: float | None, operators: float, probability: float, reason: Reason | None
) -> None:
    settings = Settings(slm_url={"gpu": server.url}, slm_min_confidence=operators)
    server.probability = probability
    async with open_session(settings) as session:
        outcome = await Slm(session, settings).chat(promotion=replace(PROMOTION, min_confidence=certified))
    assert (outcome.reason if isinstance(outcome, Declined) else None) is reason


async def test_a_certificate_speaks_only_of_answers_with_a_confidence(server: FakeVllm) -> None:
    settings = Settings(slm_url={"gpu": server.url})
    server.answer = {"choices": [{"message": {"content": RIGHT}, "finish_reason": "stop", "logprobs": None}]}
    async with open_session(settings) as session:
        slm = Slm(session, settings)
        assert served(await slm.chat())
        outcome = await slm.chat(promotion=replace(PROMOTION, min_confidence=0.0))
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.LOW_CONFIDENCE


def test_the_mean_probability_is_the_geometric_one() -> None:
    tokens = [{"logprob": 0.0}, {"logprob": -2.0}]
    assert mean_probability({"content": tokens}) == pytest.approx(0.3679, abs=1e-4)
    for nothing in (None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"content": "x"}):
        assert mean_probability(nothing) is None


async def test_a_tool_call_gets_an_id_that_says_who_issued_it(slm: Slm, server: FakeVllm) -> None:
    call = {"id": "chatcmpl-tool-1", "type": "function", "function": {"name": "sort", "arguments": RIGHT}}
    server.message, server.finish_reason = {"tool_calls": [call]}, "stop"  # vLLM's, where the tool was named
    [choice] = served(await slm.chat(TOOL, tools=TOOLS))["choices"]
    assert choice["message"]["tool_calls"][0]["id"].startswith("call_us_")
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert server.seen["tool_choice"] == {"type": "function", "function": {"name": "sort"}}
    assert server.seen["tools"][0]["function"]["strict"] is True
    named = {"type": "function", "function": {"name": "sort"}}
    [choice] = served(await slm.chat(TOOL, tools=TOOLS, tool_choice=named))["choices"]
    assert choice["finish_reason"] == "stop"


async def test_a_streaming_client_gets_the_verified_answer_as_a_stream(slm: Slm, server: FakeVllm) -> None:
    outcome = await slm.chat(stream=True, stream_options={"include_usage": True})
    assert isinstance(outcome, Served)
    assert isinstance(outcome.body, bytes)
    assert outcome.content_type.startswith(b"text/event-stream")
    assert "stream" not in server.seen
    events = [orjson.loads(line[6:]) for line in outcome.body.splitlines() if line.startswith(b"data: {")]
    assert "".join(c["delta"].get("content") or "" for event in events for c in event["choices"]) == RIGHT
    assert events[-1]["usage"]["total_tokens"] == 12
    assert outcome.body.endswith(b"data: [DONE]\n\n")


async def test_a_client_of_the_responses_api_gets_a_response(slm: Slm) -> None:
    body = served(await slm.responses())
    assert (body["object"], body["status"]) == ("response", "completed")
    assert body["output"][0]["content"][0]["text"] == RIGHT
    assert body["usage"]["total_tokens"] == 12


async def test_what_chat_completions_cant_say_is_not_asked(slm: Slm, server: FakeVllm) -> None:
    outcome = await slm.responses(input=[{"type": "computer_call", "role": "user"}, {"role": "user", "content": "x"}])
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.UNSUPPORTED_FEATURE
    assert server.seen == {}


async def test_the_breaker_spares_calls_the_wait_for_a_sick_server(slm: Slm, server: FakeVllm) -> None:
    assert not slm.is_up()  # nobody has seen it yet
    await slm.chat()
    server.fault = "engine-dead"
    for _ in range(OPEN_AFTER_FAILURES):
        assert slm.is_up()
        await slm.chat()
    assert not slm.is_up()
    server.seen = {}
    outcome = await slm.chat()
    assert isinstance(outcome, Declined)
    assert outcome.reason is Reason.SLM_UNAVAILABLE
    assert server.seen == {}
    server.fault = ""
    await asyncio.sleep(FIRST_PAUSE_SECONDS)
    outcomes = await asyncio.gather(*(slm.chat() for _ in range(3)))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Declined", "Declined", "Served"]
    assert slm.is_up()
    assert served(await slm.chat())


@pytest.mark.parametrize("fault", ["bad-request", "too-long", "unknown-model"])
async def test_what_is_wrong_with_one_call_does_not_speak_against_the_server(
    slm: Slm, server: FakeVllm, fault: str
) -> None:
    server.fault = fault
    for _ in range(OPEN_AFTER_FAILURES + 1):
        await slm.chat()
    assert slm.is_up()


async def test_a_forgotten_adapter_is_reported_to_whoever_loads_it(slm: Slm, server: FakeVllm) -> None:
    server.adapters.clear()
    await slm.chat()
    assert slm.missing == [PROMOTION]


async def test_a_client_that_leaves_cancels_the_slms_work(slm: Slm, server: FakeVllm) -> None:
    server.fault = "stall"
    call = asyncio.create_task(slm.chat())
    async with asyncio.timeout(5):
        while not server.seen:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while not server.cancelled:
            await asyncio.sleep(0.01)
    server.fault = ""
    assert served(await slm.chat())

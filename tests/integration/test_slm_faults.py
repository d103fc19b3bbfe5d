"""Whatever an SLM does, the client has its answer, and the reason is on header, metric and log. The whole proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from proxy.demo import agents
from proxy.replay.recordings import Recording, as_completion
from proxy.replay.upstream import ReplayUpstream
from proxy.slm.breaker import FIRST_PAUSE_SECONDS, OPEN_AFTER_FAILURES
from tests.conftest import ADMIN_TOKEN, Proxy, running, understudy, wait_for
from tests.proxy.fake_vllm import FakeVllm

LEARNED = 40
RIGHT = '{"label":"refund","urgent":false}'
WRONG = '{"label":"refund"}'
CLERK = "You are the clerk who looks orders up.\nUse the tool to find the order.\nNever guess."
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]},
    },
}
TICKETS = agents.tickets(seed=11)


def order_call(number: int, *turns: dict[str, Any]) -> dict[str, Any]:
    """A call of the clerk, in a tool loop that has come as far as `turns`."""
    asked = {"role": "user", "content": f"Customer {number * 13 % 97} asks for order {number}."}
    messages = [{"role": "system", "content": CLERK}, asked, *turns]
    return {"model": "gpt-4o", "messages": messages, "tools": [LOOK_UP]}


def looking_up(number: int, call_id: str) -> dict[str, Any]:
    """An answer of the clerk."""
    function = {"name": "look_up", "arguments": f'{{"order":{number}}}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def found(call_id: str, what: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": what}


def _recorded(call: dict[str, Any], message: dict[str, Any]) -> Recording:
    return Recording("chat", call, as_completion(message, call), 200, None, 0)


def _clerks_log() -> list[Recording]:
    """Tool loops of two look-ups each: the second after the first's result."""
    recordings = []
    for number in range(LEARNED):
        first, second = f"call_a{number}", f"call_b{number}"
        turns = [looking_up(number, first), found(first, f"it is a part of order {number + 1}")]
        recordings.append(_recorded(order_call(number), looking_up(number, first)))
        recordings.append(_recorded(order_call(number, *turns), looking_up(number + 1, second)))
    return recordings


class Stage:
    """The whole play: agents, LLM, SLM, and the proxy between them, with both agents' tasks promoted."""

    def __init__(self, proxy: Proxy, slm: FakeVllm, llm: agents.TriageLLM) -> None:
        self.proxy, self.slm, self._llm = proxy, slm, llm

    def ticket(self) -> tuple[dict[str, Any], str]:
        """A triage call, and what the LLM answers to it."""
        text, answer = next(TICKETS)
        self._llm.expect(text, answer)
        return agents.ticket_call(text), answer

    def ask(self, headers: dict[str, str] | None = None, **more: Any) -> tuple[httpx.Response, str]:
        """Send a triage call; returns the answer, and what the LLM would say."""
        call, llms = self.ticket()
        return self.send(call | more, headers), llms

    def send(self, call: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.post(f"{self.proxy.base_url}/chat/completions", json=call, headers=headers, timeout=30)


def how(answer: httpx.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.headers["x-understudy-served-by"], answer.headers["x-understudy-reason"]


def text(answer: httpx.Response) -> str:
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    llm = agents.TriageLLM()
    recordings = _clerks_log()
    upstream = ReplayUpstream(recordings, llm.answer)
    upstream.start()
    with (
        FakeVllm() as slm,
        running(
            tmp_path_factory.mktemp("proxy"), upstream_url=upstream.base_url, slm_url=f"gpu={slm.url}", encoder="",
            slm_timeout_seconds="0.5", slm_min_confidence="0.5",
        ) as proxy,
    ):  # fmt: skip
        play = Stage(proxy, slm, llm)
        for recording in recordings:
            assert play.send(recording.request).status_code == 200
        for _ in range(LEARNED):
            assert play.ask()[0].status_code == 200
        wait_for(lambda: proxy.logged() == 3 * LEARNED)
        done = understudy("learn", data_dir=proxy.data_dir, encoder="")
        assert done.returncode == 0, done.stderr
        clusters = proxy.admin("GET", "/clusters").json()["data"]
        assert clusters
        for cluster in clusters:
            wish = {
                "model": "triage",
                "adapter": "/adapters/triage",
                "stage": "live",
                "force": True,
                "reason": "a test",
            }
            made = proxy.admin("POST", f"/clusters/{cluster['id']}/promotions", json=wish)
            assert made.status_code == 201, made.text
        slm.message = {"content": RIGHT}
        wait_for(lambda: how(play.ask()[0]) == (200, "slm", "matched"), 10)
        yield play
    upstream.stop()


@pytest.fixture
def stage(play: Stage) -> Stage:
    """With an SLM that is well and right, and a closed breaker."""
    slm = play.slm
    slm.fault, slm.message, slm.finish_reason, slm.probability, slm.answer = "", {"content": RIGHT}, "stop", 0.99, None
    wait_for(lambda: how(play.ask()[0]) == (200, "slm", "matched"), 40)
    return play


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "refusing": ({"fault": "engine-dead"}, "slm_error"),
    "busy": ({"fault": "busy"}, "slm_error"),
    "unauthorized": ({"fault": "unauthorized"}, "slm_error"),
    "redirecting": ({"fault": "redirect"}, "slm_error"),
    "garbage": ({"fault": "garbage"}, "slm_error"),
    "cut": ({"fault": "cut"}, "slm_error"),
    "too small": ({"fault": "too-long"}, "context_too_long"),
    "silent": ({"fault": "stall"}, "slm_timeout"),
    "stalled in the middle": ({"fault": "stall-body"}, "slm_timeout"),
    "invalid": ({"message": {"content": WRONG}}, "output_invalid"),
    "empty": ({"message": {"content": ""}}, "output_invalid"),
    "out of tokens": ({"finish_reason": "length"}, "output_invalid"),
    "unsure": ({"probability": 0.3}, "low_confidence"),
}


@pytest.mark.parametrize(("state", "reason"), FAULTS.values(), ids=list(FAULTS))
def test_a_failing_slm_costs_no_answer_and_its_reason_is_everywhere(
    stage: Stage, state: dict[str, Any], reason: str
) -> None:
    counted = stage.proxy.metric(f'understudy_fallbacks_total{{reason="{reason}"}}')
    for name, value in state.items():
        setattr(stage.slm, name, value)
    answer, llms = stage.ask()
    assert how(answer) == (200, "llm", reason)
    assert text(answer) == llms
    assert stage.proxy.metric(f'understudy_fallbacks_total{{reason="{reason}"}}') == counted + 1
    call_id = answer.headers["x-understudy-call-id"]
    wait_for(lambda: stage.proxy.admin("GET", f"/calls/{call_id}").status_code == 200)
    row = stage.proxy.admin("GET", f"/calls/{call_id}").json()
    assert (row["served_by"], row["reason"], row["status"]) == ("llm", reason, 200)
    [attempt] = row["attempts"]
    assert attempt["outcome"] == reason
    assert (attempt["upstream"], attempt["model"]) == ("gpu", "triage")


@pytest.mark.parametrize("fault", ["cut", "stall", "engine-dead"])
def test_a_streaming_client_never_sees_that_the_slm_failed(stage: Stage, fault: str) -> None:
    stage.slm.fault = fault
    call, llms = stage.ticket()
    client = OpenAI(base_url=stage.proxy.base_url, api_key="x", max_retries=0)
    pieces = list(client.chat.completions.create(**call, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == llms
    assert pieces[-1].choices[0].finish_reason == "stop"


def test_a_dead_slm_is_left_alone_and_found_again_with_its_adapter(stage: Stage) -> None:
    up = 'understudy_slm_up{slm="gpu"}'
    stage.slm.die()
    reasons = [how(stage.ask()[0]) for _ in range(OPEN_AFTER_FAILURES + 2)]
    assert reasons == [(200, "llm", "slm_error")] * OPEN_AFTER_FAILURES + [(200, "llm", "slm_unavailable")] * 2
    assert stage.proxy.metric(up) == 0
    stage.slm.revive()
    assert stage.slm.adapters == {}
    wait_for(lambda: how(stage.ask()[0]) == (200, "slm", "matched"), 8 * FIRST_PAUSE_SECONDS)
    assert stage.slm.adapters == {"triage": "/adapters/triage"}
    assert stage.proxy.metric(up) == 1


def test_an_operator_may_ask_for_the_slm_and_nobody_else(stage: Stage) -> None:
    forced, _ = stage.ask({"x-understudy-route": "slm", "authorization": f"Bearer {ADMIN_TOKEN}"})
    assert how(forced) == (200, "slm", "header_override")
    for headers in ({}, {"authorization": "Bearer sk-somebody"}):
        refused, _ = stage.ask({"x-understudy-route": "slm"} | headers)
        assert refused.status_code == 403
        assert refused.json()["error"]["message"].startswith("x-understudy-route: slm needs the admin token")


@pytest.mark.parametrize("route", ["llm", "LLM", "lmm", "slm,llm", ""])
def test_anybody_may_ask_for_the_llm_and_who_misspells_it_gets_it_too(stage: Stage, route: str) -> None:
    answer, llms = stage.ask({"x-understudy-route": route})
    assert how(answer) == (200, "llm", "header_override")
    assert text(answer) == llms


def test_a_forced_call_falls_back_too(stage: Stage) -> None:
    stage.slm.fault = "engine-dead"
    answer, llms = stage.ask({"x-understudy-route": "slm", "authorization": f"Bearer {ADMIN_TOKEN}"})
    assert how(answer) == (200, "llm", "slm_error")
    assert text(answer) == llms


def test_a_tool_loop_stays_with_whom_it_began(stage: Stage) -> None:
    stage.slm.message, stage.slm.finish_reason = looking_up(3, "chatcmpl-tool-1"), "tool_calls"
    begun = stage.send(order_call(3))
    assert how(begun) == (200, "slm", "matched")
    message = begun.json()["choices"][0]["message"]
    issued = message["tool_calls"][0]["id"]
    result = "it is a part of order 4"
    assert how(stage.send(order_call(3, message, found(issued, result)))) == (200, "slm", "matched")
    llms = [looking_up(3, "call_a3"), found("call_a3", result)]
    assert how(stage.send(order_call(3, *llms))) == (200, "llm", "tool_loop_held")

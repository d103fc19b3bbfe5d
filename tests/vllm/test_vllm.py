"""The real vLLM behind the real proxy: adapters loaded by a promotion, contracts enforced, death and return."""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.conftest import Proxy, wait_for
from tests.vllm.conftest import LANGUAGES, Traffic, Vllm, booking_call

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

Promote = Callable[..., httpx.Response]


@pytest.fixture
def promote(proxy: Proxy) -> Iterator[Promote]:
    """Promotes a task, found by a line of its prompt; given back to the LLM at the test's end."""
    promoted: list[str] = []

    def promote(prompt: str, **wish: Any) -> httpx.Response:
        rows = proxy.admin("GET", "/clusters").json()["data"]
        shown = [proxy.admin("GET", f"/clusters/{row['id']}").json() for row in rows]
        cluster = next(cluster for cluster in shown if prompt in cluster["skeleton"])
        body = {"stage": "live", "force": True, "reason": "a test"} | wish
        made = proxy.admin("POST", f"/clusters/{cluster['id']}/promotions", json=body)
        if made.status_code == 201:
            promoted.append(cluster["id"])
            wait_for(lambda: proxy.metric(f'understudy_promotion_stage{{cluster="{cluster["id"]}",stage="live"}}'), 5)
        return made

    yield promote
    for cluster_id in promoted:
        proxy.admin("DELETE", f"/clusters/{cluster_id}/promotions/current")


@pytest.fixture
def triage(promote: Promote, models: Path) -> None:
    """The triage task is served by its adapter."""
    made = promote("triage desk", model="triage", adapter=str(models / "triage"))
    assert made.status_code == 201, made.text


def ask(proxy: Proxy, call: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{proxy.base_url}/chat/completions", json=call, timeout=60)


def how(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["x-understudy-served-by"], answer.headers["x-understudy-reason"]


def test_a_promotion_loads_the_adapter_and_its_task_is_answered_by_it(
    proxy: Proxy, vllm: Vllm, traffic: Traffic, promote: Promote, models: Path
) -> None:
    assert set(vllm.models()) == {"tiny"}
    call, _ = traffic.ticket()
    assert how(ask(proxy, call)) == ("llm", "not_promoted")
    assert promote("triage desk", model="triage", adapter=str(models / "triage")).status_code == 201
    assert vllm.models()["triage"]["parent"] == "tiny"
    right = 0
    for _ in range(10):
        call, truth = traffic.ticket()
        answer = ask(proxy, call)
        assert how(answer) == ("slm", "matched")
        assert (answer.headers["x-understudy-model"], answer.json()["model"]) == ("triage", "triage")
        message = answer.json()["choices"][0]["message"]
        right += json.loads(message["content"]) == json.loads(truth)
        assert set(answer.json()["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}
    assert right >= 8  # its base, bound to the same schema, would guess one in sixteen


def test_an_untrained_model_keeps_to_a_set_of_labels(proxy: Proxy, traffic: Traffic, promote: Promote) -> None:
    assert promote("language desk", model="tiny").status_code == 201
    for _ in range(5):
        answer = ask(proxy, traffic.guest())
        assert how(answer) == ("slm", "matched")
        assert answer.json()["choices"][0]["message"]["content"] in LANGUAGES


def test_an_untrained_model_keeps_to_a_tools_schema(client: OpenAI, promote: Promote) -> None:
    assert promote("books meeting rooms", model="tiny").status_code == 201
    create = client.chat.completions.with_raw_response.create
    # It may fill its tokens with white space between the arguments: then the LLM answers.
    answers = (create(**booking_call(number)) for number in range(8))
    answer = next(answer for answer in answers if answer.headers["x-understudy-served-by"] == "slm")
    [choice] = answer.parse().choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert call.id.startswith("call_us_")
    assert call.function.name == "book"
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"room", "day"}
    assert arguments["room"] in ("blue", "red", "green")
    assert arguments["day"] in ("monday", "tuesday")


@pytest.mark.usefixtures("triage")
def test_the_official_client_streams_an_adapters_answer(client: OpenAI, traffic: Traffic) -> None:
    call, _ = traffic.ticket()
    whole = client.chat.completions.with_raw_response.create(**call)
    assert whole.headers["x-understudy-served-by"] == "slm"
    pieces = list(client.chat.completions.create(**call, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.parse().choices[0].message.content
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens > 0
    assert {piece.model for piece in pieces} == {"triage"}


@pytest.mark.usefixtures("triage")
def test_a_client_of_the_responses_api_is_served_too(client: OpenAI, traffic: Traffic) -> None:
    call, truth = traffic.ticket()
    system, user = (message["content"] for message in call["messages"])
    asked: dict[str, Any] = {
        "model": "gpt-4o", "instructions": system, "input": user, "store": False, "max_output_tokens": 40,
        "temperature": 0,
    }  # fmt: skip
    answer = client.responses.with_raw_response.create(**asked)
    assert answer.headers["x-understudy-served-by"] == "slm", answer.headers["x-understudy-reason"]
    response = answer.parse()
    assert response.status == "completed"
    assert json.loads(response.output_text).keys() == json.loads(truth).keys()
    with client.responses.stream(**asked) as events:
        assert events.get_final_response().output_text == response.output_text


@pytest.mark.usefixtures("triage")
def test_a_prompt_beyond_the_models_context_is_the_llms(proxy: Proxy, traffic: Traffic) -> None:
    call, _ = traffic.ticket()
    call["messages"][1]["content"] += " very" * 2000
    assert how(ask(proxy, call)) == ("llm", "context_too_long")
    # Letters that its tokeniser never saw together: the router's estimate fits, vLLM's count does not.
    call["messages"][1]["content"] = "".join(random.Random(1).choices(string.ascii_letters, k=1800))
    assert how(ask(proxy, call)) == ("llm", "context_too_long")
    assert ask(proxy, call).json()["choices"][0]["message"]["content"] == "the LLM's answer"


def test_a_model_that_the_server_does_not_have_is_refused_with_what_it_has(
    proxy: Proxy, traffic: Traffic, promote: Promote, tmp_path: Path
) -> None:
    refused = promote("language desk", model="nobody")
    assert refused.status_code == 422
    assert "tiny" in refused.json()["error"]["message"]
    missing = promote("language desk", model="nobody", adapter=str(tmp_path / "nowhere"))
    assert missing.status_code == 422
    assert "nowhere" in missing.json()["error"]["message"]
    assert how(ask(proxy, traffic.guest())) == ("llm", "not_promoted")


def test_an_adapter_of_another_base_is_refused_and_nothing_promoted(
    proxy: Proxy, vllm: Vllm, traffic: Traffic, promote: Promote, models: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "strange"
    shutil.copytree(models / "triage", strange)
    config = json.loads((strange / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "Qwen/Qwen3-0.6B"
    (strange / "adapter_config.json").write_text(json.dumps(config))
    refused = promote("triage desk", model="strange", adapter=str(strange))
    assert refused.status_code == 422
    assert "Qwen/Qwen3-0.6B" in refused.json()["error"]["message"]
    assert "strange" not in vllm.models()
    assert how(ask(proxy, traffic.ticket()[0])) == ("llm", "not_promoted")


@pytest.mark.usefixtures("triage")
def test_a_killed_vllm_costs_no_answer_and_gets_its_adapter_again_when_it_is_back(
    proxy: Proxy, vllm: Vllm, traffic: Traffic
) -> None:
    assert how(ask(proxy, traffic.ticket()[0])) == ("slm", "matched")
    vllm.kill()
    reasons = []
    for _ in range(8):
        call, truth = traffic.ticket()
        answer = ask(proxy, call)
        assert (answer.status_code, answer.headers["x-understudy-served-by"]) == (200, "llm")
        assert answer.json()["choices"][0]["message"]["content"] == truth
        reasons.append(answer.headers["x-understudy-reason"])
    assert reasons == ["slm_error"] * 5 + ["slm_unavailable"] * 3
    assert proxy.metric('understudy_slm_up{slm="cpu"}') == 0
    vllm.start()
    vllm.ready()
    assert "triage" not in vllm.models()
    wait_for(lambda: how(ask(proxy, traffic.ticket()[0])) == ("slm", "matched"), 60)
    assert "triage" in vllm.models()
    assert proxy.metric('understudy_slm_up{slm="cpu"}') == 1

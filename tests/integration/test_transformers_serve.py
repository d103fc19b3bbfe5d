"""The real `transformers serve` behind the real proxy: the SLM server where vLLM's wheel doesn't fit.

It lists no model of its own, takes no adapter, keeps to no schema, and refuses a field that it doesn't know.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from proxy.demo import agents
from proxy.demo.servers import free_port, transformers_serve
from proxy.replay.upstream import ReplayUpstream
from tests import tiny_models
from tests.conftest import Proxy, running, understudy, wait_for

LEARNED = 60
LANGUAGES = ("german", "french", "spanish")
LANGUAGE_DESK = (
    "You are the language desk of a call centre.\nSay which language the guest speaks.\nAnswer with one word."
)
TICKETS = agents.tickets(seed=9)
GUESTS = itertools.count()

pytestmark = pytest.mark.timeout(600)


def guest_call() -> dict[str, Any]:
    """A call of the language desk, which wants a bare label."""
    number = next(GUESTS)
    text = f"Guest {number} says: {('guten Tag', 'bonjour', 'buenas tardes')[number % 3]}, table {number * 7}."
    messages = [{"role": "system", "content": LANGUAGE_DESK}, {"role": "user", "content": text}]
    return {"model": "gpt-4o", "messages": messages, "max_tokens": 40}


@pytest.fixture(scope="module")
def llm() -> agents.TriageLLM:
    return agents.TriageLLM()


@pytest.fixture(scope="module")
def upstream(llm: agents.TriageLLM) -> Iterator[ReplayUpstream]:
    def answer(request: dict[str, Any]) -> str:
        messages = request["messages"]
        if messages[0]["content"] == LANGUAGE_DESK:
            return LANGUAGES[int(messages[-1]["content"].split()[1]) % 3]
        return llm.answer(request) or "the LLM's answer"

    server = ReplayUpstream(answerer=answer)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def model() -> str:
    """The merged model's directory, which is its name too."""
    return str(tiny_models.trained() / "merged")


@pytest.fixture(scope="module")
def proxy(
    upstream: ReplayUpstream, llm: agents.TriageLLM, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """One worker that has learned the two agents' tasks, in front of the server that tests promote."""
    directory = tmp_path_factory.mktemp("proxy")
    port = free_port()
    settings = {"upstream_url": upstream.base_url, "slm_url": f"http://127.0.0.1:{port}/v1", "encoder": ""}
    with (
        transformers_serve(Path(model), port, directory / "transformers.log") as serving,
        running(directory, **settings) as proxy,
    ):
        with httpx.Client(timeout=30) as client:
            for _ in range(LEARNED):
                for call in (ticket(llm)[0], guest_call()):
                    assert client.post(f"{proxy.base_url}/chat/completions", json=call).status_code == 200
        wait_for(lambda: proxy.logged() == 2 * LEARNED)
        done = understudy("learn", data_dir=proxy.data_dir, encoder="")
        assert done.returncode == 0, done.stderr
        wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
        serving()
        yield proxy


def ticket(llm: agents.TriageLLM) -> tuple[dict[str, Any], str]:
    """A triage call that nobody has seen, and the right answer."""
    text, answer = next(TICKETS)
    llm.expect(text, answer)
    return agents.ticket_call(text), answer


def promote(proxy: Proxy, prompt: str, **wish: str) -> httpx.Response:
    """Promote the task whose prompt holds a line; returns once it is in force, or was refused."""
    rows = proxy.admin("GET", "/clusters").json()["data"]
    shown = [proxy.admin("GET", f"/clusters/{row['id']}").json() for row in rows]
    [cluster] = [cluster["id"] for cluster in shown if prompt in cluster["skeleton"]]
    body = {"stage": "live", "force": True, "reason": "a test"} | wish
    made = proxy.admin("POST", f"/clusters/{cluster}/promotions", json=body)
    if made.status_code == 201:
        wait_for(lambda: proxy.metric(f'understudy_promotion_stage{{cluster="{cluster}",stage="live"}}'), 5)
    return made


@pytest.fixture(scope="module")
def triage(proxy: Proxy, model: str) -> Proxy:
    """The triage task is served by the merged model."""
    made = promote(proxy, "triage desk", model=model)
    assert made.status_code == 201, made.text
    return proxy


def ask(proxy: Proxy, call: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{proxy.base_url}/chat/completions", json=call, timeout=60)


def how(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["x-understudy-served-by"], answer.headers["x-understudy-reason"]


def test_a_model_that_the_server_does_not_have_is_refused_in_its_own_words(proxy: Proxy, model: str) -> None:
    refused = promote(proxy, "triage desk", model="nobody")
    assert (refused.status_code, f"Server is pinned to '{model}'" in refused.text) == (422, True)


def test_an_adapter_is_refused_with_what_to_do(proxy: Proxy, model: str) -> None:
    adapter = str(Path(model).with_name("triage"))
    refused = promote(proxy, "triage desk", model="triage", adapter=adapter)
    assert (refused.status_code, "merge the adapter into its base" in refused.text) == (422, True)


def test_the_merged_model_answers_its_task(triage: Proxy, llm: agents.TriageLLM, model: str) -> None:
    right = 0
    for _ in range(10):
        call, truth = ticket(llm)
        answer = ask(triage, call)
        assert how(answer) == ("slm", "matched")
        assert (answer.headers["x-understudy-model"], answer.json()["model"]) == (model, model)
        right += json.loads(answer.json()["choices"][0]["message"]["content"]) == json.loads(truth)
    assert right >= 8  # a guess would be right once in sixteen


def test_the_official_client_streams_its_answer(triage: Proxy, llm: agents.TriageLLM) -> None:
    call, truth = ticket(llm)
    client = OpenAI(base_url=triage.base_url, api_key="x", max_retries=0)
    streamed = client.chat.completions.with_raw_response.create(**call, stream=True)
    assert streamed.headers["x-understudy-served-by"] == "slm"
    text = "".join(piece.choices[0].delta.content or "" for piece in streamed.parse() if piece.choices)
    assert json.loads(text).keys() == json.loads(truth).keys()


def test_an_answer_that_is_cut_short_is_the_llms_to_give(triage: Proxy, llm: agents.TriageLLM) -> None:
    call, truth = ticket(llm)
    answer = ask(triage, call | {"max_tokens": 3})
    assert how(answer) == ("llm", "output_invalid")
    assert answer.json()["choices"][0]["message"]["content"] == truth


def test_a_field_that_the_server_does_not_know_costs_the_slm_and_not_the_answer(
    triage: Proxy, llm: agents.TriageLLM
) -> None:
    call, truth = ticket(llm)
    answer = ask(triage, call | {"top_k": 5})
    assert how(answer) == ("llm", "slm_error")
    assert answer.json()["choices"][0]["message"]["content"] == truth


def test_a_prompt_beyond_the_models_context_is_never_sent(triage: Proxy, llm: agents.TriageLLM) -> None:
    call, _ = ticket(llm)
    call["messages"][1]["content"] += " very" * 2000
    assert how(ask(triage, call)) == ("llm", "context_too_long")


def test_an_answer_that_is_no_label_of_the_task_is_the_llms_to_give(proxy: Proxy, model: str) -> None:
    assert promote(proxy, "language desk", model=model).status_code == 201
    call = guest_call()
    answer = ask(proxy, call)  # to vLLM's field for labels the server says 422; asked without, it triages
    assert how(answer) == ("llm", "output_invalid")
    assert answer.json()["choices"][0]["message"]["content"] in LANGUAGES
    call_path = f"/calls/{answer.headers['x-understudy-call-id']}"
    wait_for(lambda: proxy.admin("GET", call_path).status_code == 200)
    assert proxy.admin("GET", call_path).json()["attempts"][0]["status"] == 200

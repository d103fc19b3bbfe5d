"""From traffic to a promoted task and back: learn, promote, serve, fall back, demote. Real processes and sockets.

The SLM server is a simulated one here: it answers, lies and dies on command.
"""

import json
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import httpx
import pytest
from openai import OpenAI

from proxy.demo import agents
from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, running, understudy, wait_for

LEARNED = 60
SEEN = list(islice(agents.tickets(seed=7), LEARNED))
TICKETS = cycle(SEEN)


class Slm:
    """An SLM server that gives the answer it is told to."""

    def __init__(self) -> None:
        self.answer = '{"label":"refund","urgent":false}'
        self.server = ReplayUpstream(answerer=lambda request: self.answer)
        self.server.start()


@pytest.fixture(scope="module")
def slm() -> Iterator[Slm]:
    slm = Slm()
    yield slm
    slm.server.stop()


@pytest.fixture(scope="module")
def proxy(slm: Slm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two workers that have seen the triage agent at work, and have learned its task."""
    llm = agents.TriageLLM()
    upstream = ReplayUpstream(answerer=lambda request: llm.answer(request) or "the LLM's answer")
    upstream.start()
    with running(
        tmp_path_factory.mktemp("proxy"), workers=2, upstream_url=upstream.base_url, slm_url=slm.server.base_url
    ) as proxy:
        with httpx.Client() as client:
            for text, answer in SEEN:
                llm.expect(text, answer)
                client.post(f"{proxy.base_url}/chat/completions", json=agents.ticket_call(text))
        wait_for(lambda: proxy.logged() == LEARNED)
        done = understudy("learn", data_dir=proxy.data_dir)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
        yield proxy
    upstream.stop()


@pytest.fixture(scope="module")
def cluster(proxy: Proxy) -> dict[str, Any]:
    [found] = proxy.admin("GET", "/clusters").json()["data"]
    return found


def promote(proxy: Proxy, cluster_id: str, **wish: Any) -> httpx.Response:
    body = {"model": "gpt-4o", "stage": "live", "force": True, "reason": "a test"} | wish
    return proxy.admin("POST", f"/clusters/{cluster_id}/promotions", json=body)


def ask(proxy: Proxy, **more: Any) -> httpx.Response:
    """A call of the task. One payload in a hundred is taken for an unlike one, as promised; then another is sent."""
    while True:
        text, _ = next(TICKETS)
        body = agents.ticket_call(text) | more
        answer = httpx.post(f"{proxy.base_url}/chat/completions", json=body, timeout=30)
        if answer.headers["x-understudy-reason"] != "payload_out_of_distribution":
            return answer


def served_by(proxy: Proxy) -> set[str]:
    """Who answers, asked often enough to meet both workers."""
    return {ask(proxy).headers["x-understudy-served-by"] for _ in range(8)}


def reasons(proxy: Proxy) -> set[str]:
    """Why, asked as often."""
    return {ask(proxy).headers["x-understudy-reason"] for _ in range(8)}


@pytest.fixture
def promoted(proxy: Proxy, slm: Slm, cluster: dict[str, Any]) -> Iterator[Proxy]:
    slm.answer = '{"label":"refund","urgent":false}'
    assert promote(proxy, cluster["id"]).status_code == 201
    wait_for(lambda: served_by(proxy) == {"slm"}, 5)  # each worker's first unclear payload loads the transformer
    yield proxy
    proxy.admin("DELETE", f"/clusters/{cluster['id']}/promotions/current")


def test_the_task_is_found_with_its_contract_and_a_name(cluster: dict[str, Any]) -> None:
    assert cluster["contract"]["kind"] == "json"
    assert "triage desk" in cluster["label"]
    assert cluster["calls"] == LEARNED


def test_live_without_a_certificate_says_what_is_missing(proxy: Proxy, cluster: dict[str, Any]) -> None:
    refused = promote(proxy, cluster["id"], force=False)
    assert refused.status_code == 409
    assert "disagreement_bound" in refused.text
    assert served_by(proxy) == {"llm"}


def test_what_cant_be_promoted_is_refused_in_words(proxy: Proxy, cluster: dict[str, Any]) -> None:
    assert promote(proxy, "c-none").status_code == 404
    unknown = promote(proxy, cluster["id"], model="nobody")
    assert (unknown.status_code, "gpt-4o" in unknown.text) == (422, True)
    assert promote(proxy, cluster["id"], slm="elsewhere").status_code == 404
    assert promote(proxy, cluster["id"], reason=None).status_code == 400
    assert promote(proxy, cluster["id"], stage="retired").status_code == 400
    assert httpx.get(f"{proxy.root}/admin/v1/clusters", headers={"authorization": "Bearer no"}).status_code == 401


def test_a_promoted_task_is_served_by_the_slm_and_given_back(promoted: Proxy, cluster: dict[str, Any]) -> None:
    answer = ask(promoted)
    assert answer.json()["choices"][0]["message"]["content"] == '{"label":"refund","urgent":false}'
    assert answer.headers["x-understudy-reason"] == "matched"
    assert answer.headers["x-understudy-cluster"] == cluster["id"]
    assert promoted.metric(f'understudy_promotion_stage{{cluster="{cluster["id"]}",stage="live"}}') == 1
    other = httpx.post(
        f"{promoted.base_url}/chat/completions",
        json={"model": "gpt-4o", "messages": [{"role": "user", "content": "Something else entirely, please."}]},
    )
    assert (other.headers["x-understudy-served-by"], other.headers["x-understudy-reason"]) == ("llm", "unknown_task")
    promoted.admin("DELETE", f"/clusters/{cluster['id']}/promotions/current")
    wait_for(lambda: served_by(promoted) == {"llm"}, 5)


def test_the_official_client_streams_an_slms_answer(promoted: Proxy) -> None:
    client = OpenAI(base_url=promoted.base_url, api_key="x", max_retries=0)
    call: Any = json.loads(ask(promoted).request.content)
    pieces: Any = list(client.chat.completions.create(**call, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == '{"label":"refund","urgent":false}'
    assert pieces[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("lie", ['{"label":"nonsense","urgent":false}', "no JSON at all", '{"label":"refund"}'])
def test_an_answer_that_breaks_the_contract_is_the_llms_to_give(promoted: Proxy, slm: Slm, lie: str) -> None:
    slm.answer = lie
    answer = ask(promoted)
    assert (answer.status_code, answer.headers["x-understudy-served-by"]) == (200, "llm")
    assert answer.headers["x-understudy-reason"] == "output_invalid"


def test_headers_keep_a_call_at_the_llm(promoted: Proxy) -> None:
    text, _ = next(TICKETS)
    answer = httpx.post(
        f"{promoted.base_url}/chat/completions",
        json=agents.ticket_call(text),
        headers={"x-understudy-route": "llm"},
    )
    assert (answer.headers["x-understudy-served-by"], answer.headers["x-understudy-reason"]) == (
        "llm",
        "header_override",
    )
    refused = httpx.post(
        f"{promoted.base_url}/chat/completions", json=agents.ticket_call(text), headers={"x-understudy-route": "slm"}
    )
    assert refused.status_code == 403


def test_stateful_and_unsupported_calls_are_never_diverted(promoted: Proxy) -> None:
    assert ask(promoted, n=2).headers["x-understudy-reason"] == "unsupported_feature"
    assert ask(promoted, logprobs=True).headers["x-understudy-reason"] == "unsupported_feature"


def test_a_dead_slm_costs_no_answer(promoted: Proxy, slm: Slm) -> None:
    slm.server.stop()
    reasons = set()
    for _ in range(20):
        answer = ask(promoted)
        assert (answer.status_code, answer.headers["x-understudy-served-by"]) == (200, "llm")
        reasons.add(answer.headers["x-understudy-reason"])
    # A ticket unlike those that were learned stays with the LLM anyway.
    assert reasons - {"payload_out_of_distribution"} == {"slm_error", "slm_unavailable"}
    assert promoted.metric('understudy_fallbacks_total{reason="slm_error"}') >= 5

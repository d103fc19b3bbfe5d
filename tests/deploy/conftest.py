"""A proxy with a promoted task under traffic, and a Prometheus that has watched it from the start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, islice

import httpx
import pytest

from proxy.demo import agents
from proxy.replay.faults import Fault
from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, running, understudy, wait_for
from tests.deploy.prometheus import Prometheus, watching

LEARNED = 60
ANSWER = '{"label":"refund","urgent":false}'
NO_ANSWER = "I would rather not say."
SLOW_SECONDS = 1.1
BOUND = "understudy_cluster_disagreement_bound"


@dataclass(frozen=True)
class Watched:
    """The proxy and who watches it.

    Attributes:
        slow_call: id of the one call that the LLM took more than a second for.
    """

    proxy: Proxy
    prometheus: Prometheus
    slow_call: str


class Agents:
    """Agents at work: tickets, and questions of no known task, one of them to a model without a price."""

    def __init__(self, client: httpx.Client, llm: agents.TriageLLM) -> None:
        self._client = client
        self._llm = llm
        self._tickets = agents.tickets(seed=7)

    def send_tickets(self, number: int) -> set[str]:
        """Returns who answered."""
        served_by = set()
        for text, answer in islice(self._tickets, number):
            self._llm.expect(text, answer)
            sent = self._client.post("/chat/completions", json=agents.ticket_call(text))
            served_by.add(sent.headers["x-understudy-served-by"])
        return served_by

    def send_question(self, model: str) -> str:
        """Returns the call's id."""
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        sent = self._client.post("/chat/completions", json={"model": model, "messages": messages})
        return str(sent.raise_for_status().headers["x-understudy-call-id"])


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two waves of traffic, so that each counter moves between two scrapes; the recording rules have seen both.

    Of the SLM's answers one in four breaks the contract, and one in six is an error.
    """
    llm = agents.TriageLLM()
    upstream = ReplayUpstream(answerer=lambda request: llm.answer(request) or "Paris.")
    turn = count()
    slm = ReplayUpstream(
        answerer=lambda request: NO_ANSWER if next(turn) % 4 == 3 else llm.answer(request) or ANSWER,
        fault=Fault.ERROR_500,
        fault_every=6,
    )
    directory = tmp_path_factory.mktemp("watched")
    with ExitStack() as started:
        for server in (upstream, slm):
            server.start()
            started.callback(server.stop)
        proxy = started.enter_context(
            running(
                directory,
                workers=2,
                learner=True,
                upstream_url=upstream.base_url,
                slm_url=f"main={slm.base_url}",
                encoder="",
                audit_share="0.4",
            )
        )
        prometheus = started.enter_context(watching(directory, proxy.root.removeprefix("http://")))
        client = started.enter_context(httpx.Client(base_url=proxy.base_url, timeout=30))
        traffic = Agents(client, llm)
        traffic.send_tickets(LEARNED)
        wait_for(lambda: proxy.logged() == LEARNED)
        learned = understudy("learn", data_dir=proxy.data_dir, encoder="")  # tasks alone: without their payloads
        assert learned.returncode == 0, learned.stderr
        cluster = _promote(proxy)
        wait_for(lambda: "slm" in traffic.send_tickets(1))
        wait_for(lambda: traffic.send_tickets(1) and proxy.metric(f'{BOUND}{{cluster="{cluster}"}}') > 0)  # audited
        for _ in range(2):
            traffic.send_tickets(12)
            traffic.send_question("a-model-without-a-price")
            upstream.latency_seconds = SLOW_SECONDS
            slow_call = traffic.send_question("gpt-4o")
            upstream.latency_seconds = 0.0
            wait_for(lambda: proxy.metric("understudy_spool_bytes") == 0)
            prometheus.catch_up()
        yield Watched(proxy, prometheus, slow_call)


def _promote(proxy: Proxy) -> str:
    """Put the one task that was learned live."""
    wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
    [cluster] = proxy.admin("GET", "/clusters").json()["data"]
    wish = {"model": "gpt-4o", "stage": "live", "force": True, "reason": "a test"}
    promoted = proxy.admin("POST", f"/clusters/{cluster['id']}/promotions", json=wish)
    assert promoted.status_code == 201, promoted.text
    return str(cluster["id"])

"""From a certificate to a promotion, and from a world that changes to its end. Real processes and sockets.

The SLM server behaves as vLLM does; it knows what the simulated LLM answers, as that was when it was trained.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.demo import agents
from proxy.replay.faults import Fault
from proxy.replay.upstream import ReplayUpstream
from proxy.watch.watch import COPIES_AT_ONCE
from tests.conftest import ADMIN_TOKEN, Proxy, running, understudy, wait_for
from tests.proxy.fake_vllm import FakeVllm

LEARNED = 300


class World:
    """A shop's triage desk: its LLM, an SLM that has learned from it, and the proxy between them and the agents."""

    def __init__(self, proxy: Proxy, llm: agents.TriageLLM, upstream: ReplayUpstream, slm: FakeVllm) -> None:
        self.proxy, self._llm, self.upstream, self.slm = proxy, llm, upstream, slm
        self.reasons: list[str] = []
        self._tickets = agents.tickets(seed=7)
        self._client = httpx.Client(timeout=30)

    def call(self, count: int = 1) -> list[str]:
        """Tickets come in; returns who answered each."""
        return [self._call(text, answer) for text, answer in islice(self._tickets, count)]

    def _call(self, text: str, answer: str) -> str:
        self._llm.expect(text, answer)
        sent = self._client.post(f"{self.proxy.base_url}/chat/completions", json=agents.ticket_call(text))
        self.reasons.append(sent.headers["x-understudy-reason"])
        return sent.headers["x-understudy-served-by"]

    @property
    def cluster(self) -> dict[str, Any]:
        [found] = self.proxy.admin("GET", "/clusters").json()["data"]
        details: dict[str, Any] = self.proxy.admin("GET", f"/clusters/{found['id']}").json()
        return details

    def evaluate(self) -> subprocess.CompletedProcess[str]:
        """As an operator would."""
        settings = {"slm_url": f"gpu={self.slm.url}", "encoder": ""}
        return understudy("evaluate", self.cluster["id"], "--model", "tiny", data_dir=self.proxy.data_dir, **settings)

    def change(self, answer: Callable[[str], str]) -> None:
        """The LLM answers otherwise from now on; the SLM does not know."""
        self.upstream.answerer = lambda request: answer(self._llm.answer(request) or "{}")

    def promote(self, stage: str) -> httpx.Response:
        wish = {"model": "tiny", "stage": stage}
        return self.proxy.admin("POST", f"/clusters/{self.cluster['id']}/promotions", json=wish)

    def page(self, path: str) -> str:
        """The console's, as a browser gets it."""
        with httpx.Client(base_url=self.proxy.root, follow_redirects=True) as browser:
            browser.post("/login", data={"token": ADMIN_TOKEN}).raise_for_status()
            return browser.get(path).raise_for_status().text


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Has seen 300 tickets, and learned their task."""
    llm = agents.TriageLLM()
    with ExitStack() as started:
        upstream = ReplayUpstream(answerer=lambda request: llm.answer(request) or "{}")
        upstream.start()
        started.callback(upstream.stop)
        slm = started.enter_context(FakeVllm())
        slm.answerer = lambda request: (llm.answer(request) or "{}", 0.98)
        proxy = started.enter_context(
            running(
                tmp_path, workers=2, learner=True, upstream_url=upstream.base_url, slm_url=f"gpu={slm.url}",
                encoder="", learn_every_hours="0", copy_usd_per_day="100",
            )
        )  # fmt: skip
        world = World(proxy, llm, upstream, slm)
        world.call(LEARNED)
        wait_for(lambda: proxy.logged() == LEARNED)
        done = understudy("learn", data_dir=proxy.data_dir, encoder="")
        assert done.returncode == 0, done.stderr
        wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
        yield world


def otherwise(answer: str) -> str:
    """What an LLM says that has changed its mind."""
    return json.dumps({"label": "praise", "urgent": not json.loads(answer)["urgent"]})


def test_a_certificate_promotes_doubt_is_outweighed_and_a_world_that_changes_demotes(world: World) -> None:
    assert world.promote("live").status_code == 409
    proved = world.evaluate()
    assert proved.returncode == 0, proved.stderr
    assert "passes" in proved.stdout
    assert max(map(len, proved.stdout.splitlines())) <= 80
    assert world.cluster["proposal"]["stage"] == "shadow"

    assert world.promote("live").status_code == 201
    wait_for(lambda: world.call(4) == ["slm"] * 4, 10)
    assert world.cluster["promotion"]["audit_share"] == 1  # the certificate is thin
    bound = f'understudy_cluster_disagreement_bound{{cluster="{world.cluster["id"]}"}}'
    wait_for(lambda: 0 < world.proxy.metric(bound) < world.proxy.metric("understudy_risk"))

    world.change(otherwise)
    world.call()
    wait_for(lambda: world.cluster["promotion"]["in_doubt"])
    world.change(str)  # as before
    assert "In doubt" in world.page(f"/tasks/{world.cluster['id']}")
    wait_for(lambda: world.call(2) == ["llm"] * 2, 5)
    assert world.reasons[-1] == "in_doubt"
    wait_for(lambda: world.call(4) == ["slm"] * 4, 60)

    world.upstream.fault = Fault.ERROR_429  # audits are refused: that says nothing
    assert set(world.call(8)) == {"slm"}
    world.upstream.fault = None
    assert world.cluster["stage"] == "live"

    world.change(otherwise)
    wait_for(lambda: world.call(2) == ["llm"] * 2 and world.cluster["stage"] is None, 60)
    [move] = [move for move in world.cluster["moves"] if move["to_stage"] == "retired"]
    assert (move["actor"], move["cause"]) == ("watch", "bound_broken")
    assert move["figures"]["failures"] <= COPIES_AT_ONCE  # all that came in with the copy that was one too many
    wait_for(lambda: set(world.call(8)) == {"llm"}, 5)
    assert "live → <b>retired</b>" in world.page(f"/tasks/{world.cluster['id']}")
    assert "evidence_from" in world.cluster["missing_proof"]["missing"]
    assert world.promote("live").status_code == 409

"""Copies in the whole product: nobody waits for them, they survive a kill, they are no calls, and they cost money."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.replay.upstream import ReplayUpstream
from router.promotion import Stage
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.copies import StoredCopy, list_copies
from tests.conftest import Proxy, Serve, wait_for
from tests.promoted import put_in_force
from tests.proxy.fake_vllm import FakeVllm
from tests.router.conftest import TRIAGE, triage_text

ANSWERED = 'understudy_copies_total{{kind="{}",outcome="answered"}}'


@pytest.fixture
def slm() -> Iterator[FakeVllm]:
    with FakeVllm() as slm:
        slm.adapters["m"] = "/adapters/m"
        slm.message = {"content": "billing"}
        yield slm


class House:
    """The product with one task promoted, and what is in its database."""

    def __init__(self, proxy: Proxy, cluster: str) -> None:
        self.proxy, self.cluster = proxy, cluster
        self.cipher = Cipher.open(proxy.data_dir)
        self.database = Database(f"sqlite:///{proxy.data_dir / 'understudy.db'}")

    def copies(self) -> list[StoredCopy]:
        with self.database.read() as session:
            return list_copies(session, self.cipher)

    def answered(self, kind: str) -> float:
        return self.proxy.metric(ANSWERED.format(kind))


Start = Callable[..., House]


@pytest.fixture
def start(serve: Serve, upstream: ReplayUpstream, slm: FakeVllm, tmp_path: Path) -> Start:
    def started(stage: Stage, **settings: str) -> House:
        cluster = put_in_force(tmp_path / "data", stage)
        values = {"audit_share": "1", "encoder": "", "slm_timeout_seconds": "60"} | settings
        proxy = serve(data_dir=tmp_path / "data", upstream_url=upstream.base_url, slm_url=f"gpu={slm.url}", **values)
        return House(proxy, cluster)

    return started


def call(number: int) -> dict[str, Any]:
    messages = [{"role": "system", "content": TRIAGE}, {"role": "user", "content": triage_text(number)}]
    return {"model": "gpt-4o", "messages": messages}


def test_no_client_waits_for_a_stalled_shadow_nor_does_its_next_call(start: Start, slm: FakeVllm) -> None:
    house = start(Stage.SHADOW, copies_at_once="2")
    slm.fault = "stall"
    with httpx.Client(base_url=house.proxy.base_url, headers={"authorization": "Bearer sk-a"}, timeout=30) as client:
        connections = set()
        for number in range(5):
            served = client.post("/chat/completions", json=call(number))
            assert (served.status_code, served.headers["x-understudy-reason"]) == (200, "shadow_only")
            connections.add(served.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(connections) == 1
        wait_for(lambda: slm.seen)  # the SLM has been asked, and still says nothing
        assert client.post("/chat/completions", json=call(9)).status_code == 200
    assert house.answered("shadow") == 0
    assert house.copies() == []
    assert house.proxy.stop() == 0  # and the end doesn't wait for it either


def test_a_copy_survives_its_worker_and_is_no_call(start: Start) -> None:
    house = start(Stage.SHADOW)
    for number in range(3):
        httpx.post(f"{house.proxy.base_url}/chat/completions", json=call(number), timeout=30).raise_for_status()
    wait_for(lambda: house.answered("shadow") == 3)
    [worker] = house.proxy.children("worker")
    worker.kill()
    wait_for(lambda: len(house.copies()) == 3)
    wait_for(lambda: house.proxy.logged() == 3)
    assert all(json.loads(copied.answer or b"")["choices"] for copied in house.copies())
    with httpx.Client() as client:
        wait_for(lambda: client.get(f"{house.proxy.root}/readyz").status_code == 200)
    assert house.proxy.metric('understudy_calls_total{endpoint="chat",served_by="llm",status="2xx"}') == 3
    assert house.proxy.metric('understudy_calls_total{endpoint="chat",served_by="slm",status="2xx"}') == 0


def test_audits_are_in_the_account_and_go_with_their_calls(start: Start, upstream: ReplayUpstream) -> None:
    house = start(Stage.LIVE, slm_gpu_usd_per_hour="1")
    headers = {"authorization": "Bearer sk-hers"}
    for number in range(4):
        served = httpx.post(f"{house.proxy.base_url}/chat/completions", json=call(number), headers=headers, timeout=30)
        assert served.headers["x-understudy-served-by"] == "slm"
    wait_for(lambda: len(house.copies()) == 4)
    assert upstream.stats["calls"] == 4
    assert house.proxy.logged() == 4
    savings = house.proxy.admin("GET", "/savings").json()
    total = savings["total"]
    assert total["audit_usd"] > 0
    assert total["gpu_usd"] > 0
    costs = ("slm_cost_usd", "gpu_usd", "shadow_usd", "audit_usd", "wasted_usd", "training_usd")
    net = total["counterfactual_usd"] - sum(total[name] for name in costs)
    assert total["savings_usd"] == pytest.approx(net)
    lines = [*savings["data"], savings["unattributed"]]
    assert sum(line["savings_usd"] for line in lines) == pytest.approx(total["savings_usd"])
    audited = house.proxy.metric('understudy_savings_part_usd{part="audit"}')
    assert audited == pytest.approx(total["audit_usd"])
    assert house.proxy.metric('understudy_cost_usd_total{served_by="audit"}') == pytest.approx(total["audit_usd"])
    shown = house.proxy.admin("GET", f"/clusters/{house.cluster}").json()["economics"]
    assert shown["audit_share"] == 1.0
    assert shown["pays"] is False  # an audit of every call saves nothing
    [origin] = {row["origin"] for row in house.proxy.admin("GET", "/calls").json()["data"]}
    assert house.proxy.admin("DELETE", f"/calls?origin={origin}").json() == {"deleted": 4}
    assert house.copies() == []


def test_an_upstream_that_is_dead_fails_the_audit_and_not_the_call(start: Start, upstream: ReplayUpstream) -> None:
    house = start(Stage.LIVE)
    upstream.stop()
    served = httpx.post(f"{house.proxy.base_url}/chat/completions", json=call(1), timeout=30)
    assert (served.status_code, served.headers["x-understudy-served-by"]) == (200, "slm")
    wait_for(house.copies)
    [copied] = house.copies()
    assert (copied.row.outcome, copied.row.status, copied.row.cost_usd) == ("llm_error", None, None)

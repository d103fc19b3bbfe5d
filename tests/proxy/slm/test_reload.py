"""A restarted vLLM gets its adapters again, without a herd of calls all asking for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from proxy.settings import Settings
from proxy.slm.reload import Reloader
from router.promotion import Promotion, Stage
from tests.conftest import wait_for
from tests.proxy.fake_vllm import FakeVllm

PROMOTION = Promotion("c-1", "triage", Stage.LIVE, 1.0, "gpu", "/adapters/triage", 1024)


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake
        wait_for(lambda: not _loading(), 10)  # or it would be cut off in the middle


@pytest.fixture
def reload(fake: FakeVllm) -> Reloader:
    return Reloader(Settings(slm_url={"gpu": fake.url}))


def _loading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "adapter-reload"]


def test_a_forgotten_adapter_is_loaded_while_calls_go_on(fake: FakeVllm, reload: Reloader) -> None:
    reload(PROMOTION)
    wait_for(lambda: fake.adapters == {"triage": "/adapters/triage"}, 10)


def test_many_calls_that_miss_it_ask_once(fake: FakeVllm, reload: Reloader) -> None:
    for _ in range(50):
        reload(PROMOTION)
    wait_for(lambda: not _loading(), 10)
    fake.adapters = {}
    reload(PROMOTION)
    assert not _loading()


def test_a_server_that_can_not_load_it_harms_nothing(fake: FakeVllm, reload: Reloader) -> None:
    fake.can_load = False
    reload(PROMOTION)
    wait_for(lambda: not _loading(), 10)
    assert fake.adapters == {}

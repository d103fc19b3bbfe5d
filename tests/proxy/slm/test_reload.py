"""A restarted vLLM gets its adapters again, without a herd of calls all asking for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.settings import Settings
from proxy.slm.reload import Reloader
from router.promotion import Promotion, Stage
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.registry import register_model
from tests.conftest import wait_for
from tests.proxy.fake_vllm import FakeVllm
from tests.proxy.slm.kept import Kept, keep_one

CIPHER = Cipher(bytes(32))
PROMOTION = Promotion("c-1", "triage", Stage.LIVE, 1.0, "gpu", "/adapters/triage", 1024)


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake
        wait_for(lambda: not _loading(), 10)  # or it would be cut off in the middle


@pytest.fixture
def settings(fake: FakeVllm, tmp_path: Path) -> Settings:
    return Settings(slm_url={"gpu": fake.url}, data_dir=tmp_path)


@pytest.fixture
def reload(settings: Settings) -> Reloader:
    """Its database is away."""
    return Reloader(settings, Database("sqlite:////nowhere/at/all.db"), ArtifactStore(settings.artifacts_dir, CIPHER))


@contextmanager
def registered(settings: Settings) -> Iterator[tuple[Kept, Database]]:
    """A kept adapter, and the database that knows it."""
    cipher, database = Cipher.open(settings.data_dir), Database(settings.database)
    kept = keep_one(settings, cipher)
    database.upgrade(cipher)
    with database.write() as session:
        register_model(session, kept.row())
    yield kept, database
    database.close()


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


def test_an_adapter_whose_files_are_gone_too_is_restored_before_it_is_loaded(
    fake: FakeVllm, settings: Settings
) -> None:
    with registered(settings) as (kept, database):
        kept.damage("volume-gone")
        Reloader(settings, database, kept.artifacts)(replace(PROMOTION, adapter=str(kept.place)))
        wait_for(lambda: fake.adapters == {"triage": str(kept.place)}, 10)
        assert kept.is_whole()


def test_a_damaged_adapter_that_can_not_be_restored_is_not_loaded(fake: FakeVllm, settings: Settings) -> None:
    with registered(settings) as (kept, database):
        kept.damage("changed")
        (kept.artifact / "adapter_model.safetensors").unlink()
        Reloader(settings, database, kept.artifacts)(replace(PROMOTION, adapter=str(kept.place)))
        wait_for(lambda: not _loading(), 10)
        assert fake.loaded == []

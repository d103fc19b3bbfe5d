"""What the shipper process tells the metrics: money, and how often SLMs disagree."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.keys import KeyWish, create_key, origin_of
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.shipping import Account, show_disagreement
from storage.cipher import Cipher
from storage.database import Database
from storage.models import PromotionRow, WatchRow
from storage.records import CallFacts, CallRecord
from storage.repositories.calls import insert_calls
from storage.repositories.promotions import demote, promote
from storage.repositories.watches import put_watch

CALL = CallRecord(
    call_id=bytes(16), arrived_at_ns=1_750_000_000 * 10**9, method="POST", path="/v1/chat/completions",
    endpoint="chat", status=200, served_by="slm", upstream="slm", reason="matched", duration_ms=10.0,
    first_token_ms=5.0, ended="finished", request_body=b"{}", response_body=b"{}",
)  # fmt: skip
FACTS = CallFacts(model_requested="gpt-4o", cost_usd=0.5, counterfactual_usd=2.0)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Knows one call, on which an SLM saved 1.50 $."""
    cipher = Cipher.open(tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    database.upgrade(cipher)
    with database.write() as session:
        insert_calls(session, cipher, [(CALL, FACTS)])
    return database


def savings_of(metrics: Metrics) -> str:
    [line] = [line for line in metrics.render().decode().splitlines() if line.startswith("understudy_savings_usd ")]
    return line


def test_savings_of_the_whole_log_are_shown_from_the_start(database: Database, tmp_path: Path) -> None:
    metrics = Metrics()
    account = Account(metrics, database, Settings(data_dir=tmp_path))
    assert savings_of(metrics) == "understudy_savings_usd 1.5"
    account.add([(CALL, FACTS)])
    assert savings_of(metrics) == "understudy_savings_usd 3.0"


def test_savings_wait_for_a_database_that_is_down_at_the_start(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "understudy.db"
    file.rename(tmp_path / "away")
    file.mkdir()
    metrics = Metrics()
    account = Account(metrics, database, Settings(data_dir=tmp_path))
    assert savings_of(metrics) == "understudy_savings_usd 0.0"
    file.rmdir()
    (tmp_path / "away").rename(file)
    account.pass_time(10.0)
    assert savings_of(metrics) == "understudy_savings_usd 1.5"


def disagreement_of(metrics: Metrics) -> list[str]:
    lines = metrics.render().decode().splitlines()
    return [line.split()[-1] for line in lines if line.startswith("understudy_cluster_disagreement_ratio{")]


def put_live(database: Database, audit: dict[str, Any]) -> None:
    """A forced promotion of `m` on `c-1`, with what its audit is kept as."""
    now = datetime.now(UTC)
    with database.write() as session:
        row = PromotionRow(
            cluster_id="c-1", model="m", stage="live", slm="main", forced=True, share=1.0, actor="a", created_at=now
        )
        version = promote(session, row).promotion_id
        watch = WatchRow(
            promotion_id=version, cluster_id="c-1", conversations=40, failures=1, audit=audit, drift=None, shadow={},
            updated_at=now,
        )  # fmt: skip
        put_watch(session, watch)


def test_disagreement_is_shown_while_something_is_promoted(database: Database, tmp_path: Path) -> None:
    """Wherever the learner is that judges: what it finds stands in the database."""
    metrics, settings = Metrics(), Settings(data_dir=tmp_path)
    show_disagreement(metrics, database, settings)
    assert disagreement_of(metrics) == []
    put_live(database, {"n": 40, "failures": 1})
    show_disagreement(metrics, database, settings)
    assert disagreement_of(metrics) == ["0.025"]
    with database.write() as session:
        demote(session, "c-1", "a")
    show_disagreement(metrics, database, settings)
    assert disagreement_of(metrics) == ["NaN"]


def test_a_watch_that_can_not_be_read_costs_no_more_than_its_figures(database: Database, tmp_path: Path) -> None:
    metrics, settings = Metrics(), Settings(data_dir=tmp_path)
    put_live(database, {"n": None})
    show_disagreement(metrics, database, settings)
    assert disagreement_of(metrics) == []


def test_calls_are_counted_by_the_names_of_their_keys(database: Database, tmp_path: Path) -> None:
    cipher, metrics = Cipher.open(tmp_path), Metrics()
    account = Account(metrics, database, Settings(data_dir=tmp_path))
    account.add([(msgspec.structs.replace(CALL, origin=b"a stranger's key"), FACTS)])
    token, _ = create_key(database, cipher, KeyWish("night shift"), "a test")
    account.add([(msgspec.structs.replace(CALL, origin=origin_of(cipher, token)), FACTS)] * 2)
    lines = metrics.render().decode().splitlines()
    assert 'understudy_key_calls_total{key="none",served_by="slm"} 1.0' in lines
    assert 'understudy_key_calls_total{key="night shift",served_by="slm"} 2.0' in lines
    assert 'understudy_key_counterfactual_cost_usd_total{key="night shift"} 4.0' in lines

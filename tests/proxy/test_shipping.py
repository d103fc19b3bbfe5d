"""What the shipper process tells of money."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.shipping import Account
from storage.cipher import Cipher
from storage.database import Database
from storage.records import CallFacts, CallRecord
from storage.repositories.calls import insert_calls

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

"""What the LLM would have counted, learned from what it did count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.money.ledger import Ledger
from proxy.money.pricing import LlmPrices, SlmPrices
from proxy.money.tokenisation import KEPT_SECONDS, RETRY_SECONDS, UNKNOWN, LoggedTokenisation
from proxy.money.tokens import TokenCounter
from proxy.wire.usage import Usage
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.calls import insert_calls
from tests.storage.conftest import make_record

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How many legs does a spider have?"}]}


class Log:
    """A database, and a clock that stands still."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cipher = Cipher.open(root)
        self.database = Database(f"sqlite:///{root / 'understudy.db'}")
        self.database.upgrade(self.cipher)
        self.seconds = 0.0
        self.tokenisation = LoggedTokenisation(self.database, self.cipher, TokenCounter(), lambda: self.seconds)
        self._ledger = Ledger(LlmPrices("http://127.0.0.1:9/v1"), SlmPrices(0, 0))

    def add(self, calls: int, usage: dict[str, object] | None, cluster: str = "c-1", **values: object) -> None:
        answer = {
            "model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": "Eight."}}], "usage": usage,
        }  # fmt: skip
        bodies = (json.dumps(REQUEST).encode(), json.dumps(answer).encode())
        given = {"cluster_id": cluster, "response_content_type": "application/json"} | values
        records = [make_record(*bodies, **given) for _ in range(calls)]
        with self.database.write() as session:
            insert_calls(session, self.cipher, [(record, self._ledger.read_facts(record)) for record in records])


def usage(given: int, written: int, cached: int = 0) -> dict[str, object]:
    return {"prompt_tokens": given, "completion_tokens": written, "prompt_tokens_details": {"cached_tokens": cached}}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_it_is_learned_from_what_the_llm_reported_on_the_same_task(log: Log) -> None:
    """o200k_base has 12 tokens for the request (4 of them around its message) and 2 for the answer."""
    log.add(3, usage(24, 10, cached=6))
    log.add(3, usage(999, 999), cluster="c-2")
    log.add(3, usage(999, 999), served_by="slm")
    log.add(3, None)  # counted by ourselves: says nothing
    known = log.tokenisation("c-1")
    assert (known.input_ratio, known.output_ratio, known.cached_share, known.calls) == (2.0, 5.0, 0.25, 3)
    assert known.correct(Usage(input_tokens=100, output_tokens=10)) == Usage(200, 50, None, 50, None)


def test_where_nothing_is_known_the_count_stands(log: Log) -> None:
    assert log.tokenisation("c-1") == log.tokenisation(None) == UNKNOWN
    log.add(2, usage(24, 10), log="metadata")  # no bodies
    log.seconds += RETRY_SECONDS
    assert log.tokenisation("c-1") == UNKNOWN


def test_it_is_looked_up_seldom_once_it_is_known_well(log: Log) -> None:
    log.add(12, usage(24, 10))
    assert log.tokenisation("c-1").input_ratio == 2.0
    log.add(36, usage(48, 10))
    log.seconds += KEPT_SECONDS - 1
    assert log.tokenisation("c-1").input_ratio == 2.0
    log.seconds += 1
    assert log.tokenisation("c-1").input_ratio == 3.5


def test_a_database_that_is_away_leaves_the_last_word(log: Log) -> None:
    log.add(12, usage(24, 10))
    known = log.tokenisation("c-1")
    log.seconds += KEPT_SECONDS
    log.database.close()
    (log.root / "understudy.db").unlink()
    (log.root / "understudy.db").mkdir()
    assert log.tokenisation("c-1") == known

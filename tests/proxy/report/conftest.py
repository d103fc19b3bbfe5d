"""A log of one narrow task, one in free text and one odd call, learned without an encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.imports import import_calls
from proxy.learning.discovery import learn_from_log
from proxy.report.tasks import LogReport, report_on_log
from proxy.settings import Settings
from proxy.shipping import ledger_for
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.calls import insert_calls

DESKS = ("billing", "shipping", "returns")
TRIAGE = "You are the triage desk.\nAnswer with the desk that the customer's message belongs to, and nothing else.\n"


def call(number: int, system: str, user: str, answer: str, **fields: Any) -> dict[str, Any]:
    """A call as a JSON line has it."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {
        "id": f"call {number}",
        "request": {"model": "gpt-4o", "messages": messages, **fields},
        "response": {
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        },
    }


def triage(number: int, customer: int | None = None, answer: str | None = None) -> dict[str, Any]:
    """A call of the narrow task; the same customer asks the same."""
    customer = number if customer is None else customer
    return call(number, TRIAGE, f"Parcel {customer} of {'xyz'[customer % 3] * 5}", answer or DESKS[customer % 3])


class Log:
    """A call log in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings = Settings(data_dir=directory, encoder="")
        self.cipher = Cipher.open(directory)
        self.database = Database(self.settings.database)
        self.database.upgrade(self.cipher)

    def bring_in(self, file: Path, form: str = "jsonl") -> int:
        ledger = ledger_for(self.settings, self.database, self.cipher)

        def sink(records: Any) -> int:
            with self.database.write() as session:
                return sum(insert_calls(session, self.cipher, [(each, ledger.read_facts(each)) for each in records]))

        return import_calls(file, form, sink, lambda _: None)

    def add(self, calls: list[dict[str, Any]]) -> None:
        file = self.directory / "calls.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in calls))
        assert self.bring_in(file) == len(calls)

    def learn(self) -> None:
        store = ArtifactStore(self.settings.artifacts_dir, self.cipher)
        learn_from_log(self.database, self.cipher, store, lambda _: None)

    def report(self) -> LogReport:
        return report_on_log(self.database, self.cipher, self.settings, lambda _: None)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path)
    yield opened
    opened.database.close()


@pytest.fixture
def learned(log: Log) -> Callable[[list[dict[str, Any]]], LogReport]:
    """The report on some calls, after learning."""

    def report(calls: list[dict[str, Any]]) -> LogReport:
        log.add(calls)
        log.learn()
        return log.report()

    return report

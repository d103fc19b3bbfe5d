"""A learning run as a whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router.contract import Answer, ContractKind
from router.decision import Reason
from router.engine import Router
from router.learning.corpus import LoggedCall, read_answer, read_logged_call
from router.learning.discovery import discover
from router.snapshot import Snapshot
from tests.router.conftest import TRIAGE, chat, logged_calls, triage_text


def test_finds_the_tasks_with_their_contracts_and_names(snapshot: Snapshot) -> None:
    triage, extract = sorted(snapshot.clusters.values(), key=lambda each: each.contract.kind, reverse=True)
    assert (triage.contract.kind, extract.contract.kind) == (ContractKind.LABEL, ContractKind.JSON)
    assert triage.contract.labels == ("billing", "returns", "shipping", "technical")
    assert (extract.contract.schema or {})["required"] == ["item", "quantity", "city"]
    assert triage.label == "triage desk of an online shop → label (4)"
    assert (triage.calls, triage.conversations, triage.models) == (60, 60, ("gpt-4o",))
    assert triage.share == pytest.approx(60 / 122)
    assert "Never explain your choice." in triage.skeleton
    assert len(triage.examples) == 5
    assert all(example.startswith("t") for example in triage.examples)


def test_names_the_task_of_each_call_in_the_order_given() -> None:
    calls = logged_calls()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    backwards = [
        LoggedCall(call.call_id, call.features, call.answer, start - timedelta(seconds=place))
        for place, call in enumerate(calls)
    ]
    found = discover(backwards)
    by_letter = {call.call_id[0]: name for call, name in zip(calls, found.assignments, strict=True)}
    assert by_letter["s"] is None
    assert len({by_letter["t"], by_letter["e"], None}) == 3
    for call, name in zip(calls, found.assignments, strict=True):
        assert name == by_letter[call.call_id[0]]


def test_learning_again_with_more_calls_keeps_the_ids(snapshot: Snapshot) -> None:
    more = [
        LoggedCall(f"m{n}", chat(("system", TRIAGE), ("user", triage_text(n))), Answer("billing"))
        for n in range(100, 130)
    ]
    again = discover(logged_calls() + more, snapshot).snapshot
    assert set(again.clusters) == set(snapshot.clusters)
    assert again.lineage == ()
    assert again.snapshot_id != snapshot.snapshot_id


def test_learning_from_scratch_gives_the_same_ids(snapshot: Snapshot) -> None:
    assert set(discover(logged_calls()).snapshot.clusters) == set(snapshot.clusters)


def test_reports_its_stages() -> None:
    stages: dict[str, list[float]] = {}
    discover(logged_calls(), report=lambda stage, share: stages.setdefault(stage, []).append(share))
    assert list(stages) == ["skeletons", "payloads", "contracts", "names", "identities"]
    assert all(0 <= share <= 1 for shares in stages.values() for share in shares)


@pytest.mark.parametrize("calls", [[], logged_calls()[:1]])
def test_a_log_without_tasks_is_an_empty_snapshot(calls: list[LoggedCall]) -> None:
    found = discover(calls)
    assert found.snapshot.clusters == {}
    assert Snapshot.load(found.snapshot.dump()).clusters == {}
    decision = Router(found.snapshot, {}).decide(chat(("user", "hello")))
    assert decision.reason is Reason.UNKNOWN_TASK


def test_calls_without_an_answer_count_but_teach_nothing() -> None:
    unanswered = [LoggedCall(call.call_id, call.features, None) for call in logged_calls()]
    clusters = discover(unanswered).snapshot.clusters.values()
    assert {each.calls for each in clusters} == {60}
    assert {each.contract.support for each in clusters} == {0}
    assert {each.contract.kind for each in clusters} == {ContractKind.TEXT}


REQUEST = json.dumps({"messages": [{"role": "user", "content": "hi"}], "model": "gpt-4o"}).encode()


def completion(message: dict[str, Any], finish: str | None = "stop") -> dict[str, Any]:
    return {"model": "gpt-4o-2024", "choices": [{"message": message, "finish_reason": finish}]}


def call_of(**function: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c1", "type": "function", "function": function}], "content": None}


@pytest.mark.parametrize(
    ("endpoint", "answer", "expected"),
    [
        ("chat", completion({"content": "hello"}), ("hello", [])),
        ("chat", completion({"content": "hello"}, None), ("hello", [])),
        ("chat", completion({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), ("ab", [])),
        ("chat", completion(call_of(name="f", arguments='{"a": 1}'), "tool_calls"), ("", [("f", '{"a": 1}')])),
        ("chat", completion(call_of(name="f", arguments={"a": 1})), ("", [("f", '{"a":1}')])),
        ("chat", completion({"function_call": {"name": "f", "arguments": "{}"}}), ("", [("f", "{}")])),
        ("chat", completion({"content": "hel"}, "length"), None),
        ("chat", completion({"content": ""}, "content_filter"), None),
        ("chat", completion({"content": None, "refusal": "I can't"}), None),
        ("chat", {"error": {"message": "no"}}, None),
        ("chat", {"choices": []}, None),
        ("responses", {"status": "completed", "output": [
            {"type": "reasoning"},
            {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]}, ("hi", [("f", "{}")])),
        ("responses", {"status": "incomplete", "output": []}, None),
        ("responses", {"status": "completed", "output": [{"type": "web_search_call"}]}, None),
        ("responses", {"status": "completed", "output": [
            {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, None),
        ("responses", {}, None),
    ],
)  # fmt: skip
def test_reads_whole_answers_only(endpoint: str, answer: dict[str, Any], expected: Any) -> None:
    found = read_answer(endpoint, answer)
    assert expected == (found and (found.text, [(call.name, call.arguments) for call in found.tool_calls]))


def test_reads_a_call_of_the_log() -> None:
    call = read_logged_call("id", "chat", REQUEST, completion({"content": "hello"}))
    assert call is not None
    assert (call.call_id, call.answer, call.model) == ("id", Answer("hello"), "gpt-4o-2024")
    unanswered = read_logged_call("id", "chat", REQUEST, None)
    assert unanswered is not None
    assert (unanswered.answer, unanswered.model) == (None, "gpt-4o")


@pytest.mark.parametrize(
    ("endpoint", "request_body"),
    [("embeddings", REQUEST), ("chat", b"{"), ("chat", b"[]"), ("chat", b'{"messages": []}'), ("responses", REQUEST)],
)
def test_what_can_have_no_task_is_left_out(endpoint: str, request_body: bytes) -> None:
    assert read_logged_call("id", endpoint, request_body, None) is None

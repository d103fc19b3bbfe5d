"""Induced contracts: strict where the evidence is, open where it isn't, and true of answers that come later."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import Answer, ContractKind, OutputContract, violation
from router.features import CallFeatures, ToolCall, read_chat
from router.learning.contracts import closed_set, induce, induce_schema, satisfied_share
from router.learning.conversations import conversations_of
from router.learning.corpus import read_answer

DATA = Path(__file__).parents[4] / "shared" / "data" / "agent_calls.jsonl.gz"


def request(**fields: Any) -> CallFeatures:
    return read_chat({"messages": [{"role": "user", "content": "x"}], **fields})


def induced(texts: list[str], **fields: Any) -> OutputContract:
    return induce([request(**fields)] * len(texts), [Answer(text) for text in texts])


def tool(name: str, *required: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": "a text"} for key in required}
    parameters = {"type": "object", "title": name, "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def calling(name: str, **arguments: Any) -> Answer:
    return Answer("", (ToolCall("call_1", name, orjson.dumps(arguments).decode()),))


LABELS = ["yes", "no", "maybe"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (LABELS * 10, ContractKind.LABEL),
        (["yes\n", " no"] * 10, ContractKind.LABEL),
        (LABELS * 3, ContractKind.TEXT),  # nine answers say little
        (LABELS * 10 + ["perhaps"], ContractKind.TEXT),  # a tail: the set isn't closed
        (LABELS * 40 + ["perhaps"], ContractKind.LABEL),  # within the hundredth that is tolerated
        (["ok"] * 40, ContractKind.TEXT),  # one answer is no choice
        ([f"{n}" for n in range(40)], ContractKind.TEXT),
        (["a long answer " * 9, "another one " * 9] * 20, ContractKind.TEXT),
        (['{"a": 1}', '{"a": 2}'] * 10, ContractKind.JSON),
        (['[1]', '["x"]'] * 10, ContractKind.JSON),
        ([f'{{"a": {n}}}' for n in range(10)] + ["sorry"] * 10, ContractKind.TEXT),
        (["true", "false"] * 20, ContractKind.LABEL),
        (["```json\n{}\n```"] * 20, ContractKind.TEXT),
        ([], ContractKind.TEXT),
    ],
)  # fmt: skip
def test_finds_the_strictest_form_with_evidence(texts: list[str], kind: ContractKind) -> None:
    assert induced(texts).kind is kind


def test_the_same_conversation_counts_once() -> None:
    assert closed_set(["yes", "no"] * 20, [str(n) for n in range(40)]) == ("no", "yes")
    assert closed_set(["yes", "no"] * 20, [str(n % 4) for n in range(40)]) == ()


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ([{"a": 1}, {"a": 2, "b": "x"}] * 5,
         {"type": "object", "required": ["a"],
          "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}),
        ([{"a": 1}, {"a": 1.5}] * 5, {"type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}}),
        ([{"a": None}, {"a": "x"}] * 5,
         {"type": "object", "required": ["a"], "properties": {"a": {"type": ["null", "string"]}}}),
        ([{"a": 1}], {"type": "object", "required": ["a"], "properties": {"a": {}}}),
        ([[1, 2], [], [3, 4, 5]] * 3, {"type": "array", "items": {"type": "integer"}}),
        ([{f"file{n}.py": n} for n in range(30)], {"type": "object", "additionalProperties": {"type": "integer"}}),
        ([{"c": "red"}, {"c": "blue"}] * 30,
         {"type": "object", "required": ["c"], "properties": {"c": {"type": "string", "enum": ["blue", "red"]}}}),
        ([{"c": "red"}, {"c": "blue"}] * 10,
         {"type": "object", "required": ["c"], "properties": {"c": {"type": "string"}}}),
    ],
)  # fmt: skip
def test_induces_a_schema_with_what_is_certain(values: list[Any], schema: dict[str, Any]) -> None:
    assert induce_schema(values) == schema


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON_VALUES, min_size=1, max_size=30))
def test_what_a_schema_was_induced_from_keeps_it(values: list[Any]) -> None:
    contract = OutputContract(ContractKind.JSON, schema=induce_schema(values))
    assert all(violation(contract, Answer(orjson.dumps(value).decode())) is None for value in values)


def test_the_clients_own_schema_wins() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "description": "n"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    contract = induced(['{"a": 1, "b": 2}'] * 10, response_format=wanted)
    assert contract.schema == {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def test_a_client_schema_that_the_llm_does_not_keep_is_not_taken() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    contract = induced(['{"a": 1}'] * 10, response_format=wanted)
    assert (contract.schema or {})["type"] == "object"


def test_a_tool_call_has_the_schema_that_was_offered() -> None:
    offered = {"tools": [tool("find", "query"), tool("stop")]}
    contract = induce([request(**offered)] * 40, [calling("find", query="x")] * 40)
    assert contract.kind is ContractKind.TOOL_CALL
    assert contract.tools["find"] == {
        "type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"],
    }  # fmt: skip
    assert "stop" in contract.tools  # offered, though never called
    assert not contract.parallel
    assert not contract.open_tools
    assert violation(contract, Answer("I would search")) is not None


def test_arguments_that_break_the_offered_schema_get_one_of_their_own() -> None:
    contract = induce([request(tools=[tool("find", "query")])] * 40, [calling("find", text="x")] * 40)
    assert contract.tools["find"]["required"] == ["text"]


def test_a_task_that_calls_or_answers_allows_both() -> None:
    answers = [calling("find", query="x")] * 20 + [Answer('{"a": 1}')] * 20
    contract = induce([request(tools=[tool("find", "query")])] * 40, answers)
    assert contract.kind is ContractKind.JSON
    assert satisfied_share(contract, answers) == 1
    assert violation(contract, Answer("neither")) is not None


def test_tools_that_come_only_once_leave_the_set_open() -> None:
    answers = [calling(f"tool{n}") for n in range(40)]
    contract = induce([request(tools=[tool(f"tool{n}")]) for n in range(40)], answers)
    assert contract.open_tools
    assert violation(contract, calling("tool99")) is None


def test_text_keeps_to_its_script_and_length() -> None:
    contract = induced([f"An answer of some length, number {n}." for n in range(40)])
    assert contract.languages == ("latin",)
    assert violation(contract, Answer("Another answer, somewhat different.")) is None
    assert violation(contract, Answer("Ответ на другом языке")) == "written in cyrillic"
    assert violation(contract, Answer("word " * 1000)) is not None
    few = induced(["An answer."] * 5)
    assert (few.max_chars, few.languages) == (None, ())


@pytest.mark.skipif(not DATA.exists(), reason="the recorded agent calls are not beside the repository")
def test_holds_on_the_llms_further_answers_of_real_agents() -> None:
    """Induced from three quarters of each agent's conversations, checked on the rest."""
    by_task: dict[str, list[tuple[CallFeatures, Answer]]] = defaultdict(list)
    with gzip.open(DATA, "rt") as lines:
        for row in map(json.loads, lines):
            response = row["response"]
            answer = read_answer("chat", response if "choices" in response else {"choices": [{"message": response}]})
            if answer and (answer.text.strip() or answer.tool_calls):
                by_task[row["task_hint"]].append((read_chat(row["request"]), answer))
    kept = total = 0
    for pairs in by_task.values():
        names = conversations_of([features for features, _ in pairs])
        order = sorted(set(names))
        random.Random(0).shuffle(order)
        held_out = set(order[: len(order) // 4])
        seen = [(*pair, name) for pair, name in zip(pairs, names, strict=True) if name not in held_out]
        unseen = [pair for pair, name in zip(pairs, names, strict=True) if name in held_out]
        if len(seen) >= 50:
            contract = induce([f for f, _, _ in seen], [a for _, a, _ in seen], [n for _, _, n in seen])
            kept += sum(violation(contract, answer) is None for _, answer in unseen)
            total += len(unseen)
    assert total > 150
    assert kept / total >= 0.99

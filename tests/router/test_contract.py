"""Contracts: what breaks them, what they make a server generate, and that strangers' schemas can't hurt."""

from __future__ import annotations

import copy
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import (
    Answer,
    ContractInvalid,
    ContractKind,
    Dialect,
    OutputContract,
    constrain,
    contract_for,
    violation,
)
from router.features import ToolCall, read_chat, read_responses

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
JSON = OutputContract(ContractKind.JSON, schema=SCHEMA)
LABEL = OutputContract(ContractKind.LABEL, labels=("no", "yes"))
TEXT = OutputContract(ContractKind.TEXT, min_chars=2, max_chars=20, languages=("latin",))
TOOL = OutputContract(ContractKind.TOOL_CALL, tools={"add": SCHEMA}, parallel=False)
EITHER = OutputContract(ContractKind.JSON, schema=SCHEMA, tools={"add": SCHEMA})


def calls(*named: tuple[str, str]) -> Answer:
    return Answer("", tuple(ToolCall("id", name, arguments) for name, arguments in named))


@pytest.mark.parametrize(
    ("contract", "answer", "expected"),
    [
        (JSON, Answer('{"n": 1}'), None),
        (JSON, Answer(' {"n": 1, "more": true}\n'), None),
        (JSON, Answer('{"n": "1"}'), "the answer: breaks the schema at properties/n/type"),
        (JSON, Answer("{}"), "the answer: breaks the schema at required"),
        (JSON, Answer('{"n": 1'), "the answer: not JSON"),
        (JSON, Answer('{"n": NaN}'), "the answer: not JSON"),
        (JSON, Answer("[" * 5000), "the answer: not JSON"),
        (JSON, calls(("add", '{"n": 1}')), "a tool call where text is expected"),
        (LABEL, Answer(" yes\n"), None),
        (LABEL, Answer("Yes"), "not one of the labels"),
        (TEXT, Answer("hello"), None),
        (TEXT, Answer("h"), "1 characters, fewer than 2"),
        (TEXT, Answer("h" * 21), "21 characters, more than 20"),
        (TEXT, Answer("привет всем"), "written in cyrillic"),
        (TEXT, Answer("the word привет"), "written in cyrillic"),
        (TEXT, Answer("named Ж, said he"), None),
        (TOOL, calls(("add", '{"n": 1}')), None),
        (TOOL, calls(("add", '{"n": 1}'), ("add", '{"n": 2}')), "more than one tool call"),
        (TOOL, calls(("add", "{}")), "the arguments: breaks the schema at required"),
        (TOOL, calls(("add", "")), "the arguments: breaks the schema at required"),
        (TOOL, calls(("add", "[]")), "the arguments: not a JSON object"),
        (TOOL, calls(("drop", "{}")), "a tool that isn't among the task's"),
        (TOOL, Answer("I would add them"), "no tool call"),
        (EITHER, calls(("add", '{"n": 1}')), None),
        (EITHER, Answer('{"n": 1}'), None),
    ],
)
def test_names_what_is_wrong_with_an_answer(contract: OutputContract, answer: Answer, expected: str | None) -> None:
    assert violation(contract, answer) == expected


def test_says_nothing_of_the_answers_own_text() -> None:
    secret = Answer('{"n": "4111 1111 1111 1111"}')
    assert "4111" not in (violation(JSON, secret) or "")


def _exponential(levels: int) -> dict[str, Any]:
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 8} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{levels}": {"type": "string"}}}


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "string", "pattern": "(a|aa)+$"},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "#/nowhere"},
        {"type": "nonsense"},
        {"properties": 7, "type": "string", "minLength": "x"},
        {"enum": [f"label {n}" for n in range(100_000)]},
        _exponential(12),
        _deep(500),
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_hostile_schema_refuses_and_does_not_hang(schema: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = Answer(orjson.dumps("a" * 5000 + "b").decode())
    assert violation(OutputContract(ContractKind.JSON, schema=schema), answer) is not None
    assert time.monotonic() - began < 5  # a tenth of it as a rule


def test_unique_items_are_found_in_linear_time() -> None:
    contract = OutputContract(ContractKind.JSON, schema={"uniqueItems": True})
    assert violation(contract, Answer(str(list(range(50_000))))) is None
    assert violation(contract, Answer("[1, 2, 1]")) == "the answer: breaks the schema at uniqueItems"


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {
        "properties": {"pattern": {"type": "integer"}, "description": {"type": "string"}},
        "required": ["pattern"],
    }
    contract = OutputContract(ContractKind.JSON, schema=schema)
    assert violation(contract, Answer('{"pattern": 1}')) is None
    assert violation(contract, Answer('{"pattern": "1"}')) is not None
    assert violation(contract, Answer('{"pattern": 1, "description": 2}')) is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    )
)
def test_any_value_as_a_schema_is_a_verdict_never_an_error(value: Any) -> None:
    schema = value if isinstance(value, dict) else {"properties": value, "$ref": value, "anyOf": value}
    verdict = violation(OutputContract(ContractKind.JSON, schema=schema), Answer('{"a": [1, "b"]}'))
    assert verdict is None or isinstance(verdict, str)


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]
ASKED = {"type": "json_schema", "json_schema": {"name": "mine", "schema": {"type": "array"}}}
NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("contract", "body", "changed"),
    [
        (LABEL, {}, {"structured_outputs": {"choice": ["no", "yes"]}}),
        (LABEL, {"response_format": {"type": "text"}}, {}),
        (LABEL, {"response_format": ASKED}, {}),
        (TEXT, {}, {}),
        (JSON, {"response_format": ASKED}, {}),
        (TOOL, {"tools": TOOLS, "tool_choice": "none"}, {"parallel_tool_calls": False}),
        (TOOL, {"tools": TOOLS, "parallel_tool_calls": False}, {"tool_choice": NAMED}),
        (TOOL, {"tools": TOOLS, "tool_choice": "auto"}, {"tool_choice": NAMED, "parallel_tool_calls": False}),
        (TOOL, {"tools": TOOLS, "tool_choice": NAMED}, {"parallel_tool_calls": False}),
        (EITHER, {"tools": TOOLS}, {}),
    ],
)
def test_constrains_only_what_the_client_left_open(
    contract: OutputContract, body: dict[str, Any], changed: dict[str, Any]
) -> None:
    result = copy.deepcopy(body)
    constrain(contract, result)
    if "tools" in body:
        assert result.pop("tools") == [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
        body = {name: value for name, value in body.items() if name != "tools"}
    assert result == {**body, **changed}


@pytest.mark.parametrize("body", [{}, {"response_format": {"type": "json_object"}}])
def test_json_is_asked_for_by_its_schema(body: dict[str, Any]) -> None:
    constrain(JSON, body)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_labels_are_not_asked_of_servers_that_would_put_them_in_quotes() -> None:
    body: dict[str, Any] = {}
    constrain(LABEL, body, Dialect.OPENAI)
    assert body == {}


def test_several_tools_are_required_and_none_is_named() -> None:
    body: dict[str, Any] = {"tools": TOOLS}
    constrain(OutputContract(ContractKind.TOOL_CALL, tools={"add": {}, "sub": {}}), body)
    assert body["tool_choice"] == "required"


def test_a_client_that_said_strict_is_false_is_left_alone() -> None:
    function = {"name": "add", "strict": False}
    body: dict[str, Any] = {"tools": [{"type": "function", "function": function}]}
    constrain(TOOL, body)
    assert body["tools"][0]["function"]["strict"] is False
    assert function == {"name": "add", "strict": False}


def test_a_calls_own_schema_and_tools_win() -> None:
    messages = [{"role": "user", "content": "x"}]
    newer = {"type": "object", "required": ["m"]}
    features = read_chat({
        "messages": messages,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": newer}},
        "tools": [{"type": "function", "function": {"name": "add", "parameters": newer}},
                  {"type": "function", "function": {"name": "new"}}],
    })  # fmt: skip
    contract = contract_for(EITHER, features)
    assert contract.schema == newer
    assert contract.tools == {"add": newer}
    assert violation(contract, Answer('{"n": 1}')) is not None
    assert contract_for(JSON, read_chat({"messages": messages})) == JSON


def test_open_tools_are_those_of_the_request() -> None:
    contract = OutputContract(ContractKind.TEXT, tools={"add": SCHEMA}, open_tools=True)
    assert violation(contract, calls(("unheard_of", "{}"))) is None
    features = read_responses({"input": "x", "tools": [{"type": "function", "name": "sub", "parameters": SCHEMA}]})
    assert contract_for(contract, features).tools == {"sub": SCHEMA}
    assert violation(contract_for(contract, features), calls(("add", '{"n": 1}'))) is not None


@pytest.mark.parametrize("contract", [JSON, LABEL, TEXT, TOOL, EITHER], ids=lambda contract: contract.kind)
def test_survives_its_json_form(contract: OutputContract) -> None:
    assert OutputContract.from_json(orjson.loads(orjson.dumps(contract.to_json()))) == contract


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"kind": "poem"}, {"kind": "json"}, {"kind": "label"}, {"kind": "text", "colour": 1},
     {"kind": "text", "max_chars": "9"}, {"kind": "tool_call", "tools": {"a": 1}}, {"kind": "label", "labels": [1]}],
)  # fmt: skip
def test_other_json_is_no_contract(value: object) -> None:
    with pytest.raises(ContractInvalid):
        OutputContract.from_json(value)

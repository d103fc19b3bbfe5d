"""All kinds of calls in one form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.contract import Answer
from router.features import ToolCall, read_chat, read_responses
from router.learning.curation.chat import answer_of, chat_of, tools_of
from router.learning.curation.drops import Drop, Dropped

DONE = Answer("done")
TOOL = {"name": "find", "description": "looks", "parameters": {"type": "object"}}


def chat(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return chat_of(read_chat({"model": "m", "messages": list(messages)}), DONE)


def called(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "find", "arguments": arguments}}


def test_ids_of_tool_calls_are_counted_and_results_follow_them() -> None:
    found = chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [called("x7"), called("y9", '{"q": 1}')]},
        {"role": "tool", "tool_call_id": "y9", "content": "two"},
        {"role": "tool", "tool_call_id": "x7", "content": "one"},
    )
    assert [message["role"] for message in found] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert found[1]["content"] == "a\nb"
    assert [call["id"] for call in found[2]["tool_calls"]] == ["call_1", "call_2"]
    assert [message["tool_call_id"] for message in found[3:5]] == ["call_2", "call_1"]
    assert "content" not in found[2]


def test_functions_of_the_old_kind_become_tools() -> None:
    found = chat(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "function_call": {"name": "find", "arguments": '{"q": 1}'}},
        {"role": "function", "name": "find", "content": "one"},
    )
    assert found[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"q": 1}'}
    assert found[2] == {"role": "tool", "tool_call_id": "call_1", "content": "one"}
    assert tools_of({"functions": [TOOL]}) == tools_of({"tools": [{"type": "function", "function": TOOL}]})


def test_parallel_calls_of_responses_are_one_message() -> None:
    body = {
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "a"},
            {"type": "function_call", "call_id": "x", "name": "find", "arguments": "{}"},
            {"type": "function_call", "call_id": "y", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "x", "output": "one"},
            {"type": "function_call_output", "call_id": "y", "output": "two"},
        ],
        "tools": [{"type": "function", **TOOL}],
    }
    found = chat_of(read_responses(body), Answer("", (ToolCall("z", "find", '{"q": 2}'),)))
    assert [message["role"] for message in found] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [call["id"] for call in found[2]["tool_calls"]] == ["call_1", "call_2"]
    assert found[5]["tool_calls"][0]["id"] == "call_3"
    assert answer_of(found[5]).tool_calls == (ToolCall("call_3", "find", '{"q": 2}'),)
    assert tools_of(body) == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "tool", "tool_call_id": "nobody's", "content": "one"},
        {"role": "tool", "content": "one"},
        {"role": "assistant", "tool_calls": [called("x", "not JSON")]},
        {"role": "assistant", "tool_calls": [called("x", "[1]")]},
        {"role": "critic", "content": "hm"},
    ],
    ids=["image", "unknown call", "no call", "no JSON", "no object", "unknown role"],
)
def test_what_no_template_can_show_is_dropped(message: dict[str, Any]) -> None:
    with pytest.raises(Dropped) as dropped:
        chat({"role": "user", "content": "a"}, message)
    assert dropped.value.reason is Drop.UNRENDERABLE


def test_every_argument_is_json_text() -> None:
    found = chat({"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [called("x", "")]})
    assert json.loads(found[1]["tool_calls"][0]["function"]["arguments"]) == {}

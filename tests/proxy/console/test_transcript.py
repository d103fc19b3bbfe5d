"""Requests and answers as conversations."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.console.transcript import MAX_CHARS, MAX_TURNS, read_request, read_response, said

FIELDS = ["role", "content", "tool_calls", "function", "name", "arguments", "type", "text", "output"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(FIELDS), inner
    ),
    max_leaves=12,
)  # fmt: skip


def turns(body: Any) -> list[tuple[str, list[tuple[str, str, str]]]]:
    read = read_request(orjson.dumps(body))
    assert read is not None
    return [(turn.role, [(part.kind, part.name, part.text) for part in turn.parts]) for turn in read.turns]


def test_a_tool_loop_reads_as_one() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }  # fmt: skip
    first, second, third = turns(body)
    assert first[1][0] == ("text", "", "Look:")
    assert first[1][1][0] == "data"
    assert second == ("assistant", [("call", "weather", '{\n  "city": "Oslo"\n}')])
    assert third == ("tool", [("result", "1", "rain")])
    read = read_request(orjson.dumps(body))
    assert read is not None
    assert read.tools == ("weather",)
    assert read.options is not None
    assert orjson.loads(read.options.text) == {"model": "m"}


def test_a_responses_request_reads_as_one() -> None:
    body = {
        "instructions": "Be kind.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
            {"type": "function_call_output", "call_id": "1", "output": "done"},
        ],
    }
    assert turns(body) == [
        ("system", [("text", "", "Be kind.")]),
        ("user", [("text", "", "Hello")]),
        ("assistant", [("call", "f", "{}")]),
        ("tool", [("result", "1", "done")]),
    ]


def test_a_stream_reads_like_a_whole_answer() -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hel", "lo")]
    stream = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    assert said(read_response("chat", stream, "text/event-stream", "")) == "Hello"


def test_an_error_is_shown_as_one() -> None:
    read = read_response("chat", b'{"error": {"message": "no"}}', "application/json", "")
    assert read is not None
    assert read.turns[0].role == "error"


def test_what_is_no_json_is_shown_as_text() -> None:
    assert said(read_request(b"\xff<html>")) == "\ufffd<html>"
    assert said(read_response("chat", b"<html>", "text/html", "")) == "<html>"
    assert read_request(None) is None


def test_long_conversations_and_texts_are_bounded() -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(5000)]
    read = read_request(orjson.dumps({"messages": messages}))
    assert read is not None
    assert (len(read.turns), read.left_out) == (MAX_TURNS, 5000 - MAX_TURNS)
    assert read.turns[0].parts[0].text == "0"
    assert read.turns[-1].parts[0].text == "4999"
    long = read_request(orjson.dumps({"messages": [{"role": "user", "content": "x" * 10**6}]}))
    assert long is not None
    assert (len(long.turns[0].parts[0].text), long.turns[0].parts[0].cut) == (MAX_CHARS, 10**6 - MAX_CHARS)


@given(JSON, st.sampled_from(["messages", "input", "prompt", "instructions", "tools"]))
def test_no_request_is_too_odd_to_be_shown(value: Any, field: str) -> None:
    assert read_request(orjson.dumps({field: value})) is not None


@given(
    JSON,
    st.sampled_from(["choices", "output", "error"]),
    st.sampled_from(["chat", "responses", "completions", "other"]),
)
def test_no_answer_is_too_odd_to_be_shown(value: Any, field: str, endpoint: str) -> None:
    assert read_response(endpoint, orjson.dumps({field: value}), "application/json", "") is not None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{}", b'{"messages": null}', b'{"messages": [1, null]}']
)
def test_odd_bodies_are_shown(body: bytes) -> None:
    assert read_request(body) is not None
    assert read_response("chat", body, "application/json", "") is not None

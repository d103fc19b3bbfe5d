"""Which calls only the LLM may answer."""

from __future__ import annotations

from typing import Any

import pytest

from router.decision import Reason
from router.features import read_chat, read_responses
from router.policy import SLM_TOOL_CALL_PREFIX, exceeds_context, never_diverted

USER = [{"role": "user", "content": "hi"}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}


def media(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, part]}]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"temperature": 0.2, "stop": ["\n"], "stream": True, "stream_options": {"include_usage": True}}, None),
        ({"n": 1, "logprobs": False, "store": False, "modalities": ["text"], "user": "u", "logit_bias": {}}, None),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}}, None),
        ({"response_format": {"type": "json_object"}}, None),
        ({"unheard_of": None, "prediction": None}, None),
        ({"store": True}, Reason.STATEFUL_CALL),
        ({"n": 2}, Reason.UNSUPPORTED_FEATURE),
        ({"logprobs": True}, Reason.UNSUPPORTED_FEATURE),
        ({"logit_bias": {"50256": -100}}, Reason.UNSUPPORTED_FEATURE),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, Reason.UNSUPPORTED_FEATURE),
        ({"prediction": {"type": "content", "content": "x"}}, Reason.UNSUPPORTED_FEATURE),
        ({"web_search_options": {"search_context_size": "low"}}, Reason.UNSUPPORTED_FEATURE),
        ({"web_search_options": {}}, Reason.UNSUPPORTED_FEATURE),
        ({"functions": [{"name": "f"}]}, Reason.UNSUPPORTED_FEATURE),
        ({"unheard_of": 1}, Reason.UNSUPPORTED_FEATURE),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, Reason.UNSUPPORTED_FEATURE),
        ({"tools": "all"}, Reason.UNSUPPORTED_FEATURE),
        ({"tool_choice": {"type": "allowed_tools"}}, Reason.UNSUPPORTED_FEATURE),
        ({"response_format": {"type": "grammar"}}, Reason.UNSUPPORTED_FEATURE),
        (media({"type": "image_url", "image_url": {"url": "data:"}}), Reason.UNSUPPORTED_FEATURE),
        (media({"type": "input_audio", "input_audio": {}}), Reason.UNSUPPORTED_FEATURE),
        (media({"type": "file", "file": {"file_id": "file-1"}}), Reason.STATEFUL_CALL),
        ({"messages": [*USER, {"role": "assistant", "audio": {"id": "audio_1"}}, *USER]}, Reason.STATEFUL_CALL),
    ],
)  # fmt: skip
def test_chat_calls(body: dict[str, Any], expected: Reason | None) -> None:
    assert never_diverted(read_chat({"model": "gpt-4o", "messages": USER, **body})) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"store": False}, None),
        ({"store": False, "tools": [{"type": "function", "name": "f"}], "max_output_tokens": 5}, None),
        ({"store": False, "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}}, None),
        ({"store": False, "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}}, None),
        ({}, Reason.STATEFUL_CALL),  # what the provider stores by default, a later call may name
        ({"store": True}, Reason.STATEFUL_CALL),
        ({"store": None}, Reason.STATEFUL_CALL),
        ({"store": False, "previous_response_id": "resp_1"}, Reason.STATEFUL_CALL),
        ({"store": False, "conversation": "conv_1"}, Reason.STATEFUL_CALL),
        ({"store": False, "background": True}, Reason.STATEFUL_CALL),
        ({"store": False, "input": [{"type": "item_reference", "id": "msg_1"}, *USER]}, Reason.STATEFUL_CALL),
        ({"store": False, "input": [{"type": "reasoning", "encrypted_content": "gAAA"}, *USER]}, Reason.STATEFUL_CALL),
        ({"store": False, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
         Reason.STATEFUL_CALL),
        ({"store": False, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]},
         Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "input": [*USER, {"type": "computer_call", "id": "c"}]}, Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "tools": [{"type": "web_search"}]}, Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "tools": [{"type": "mcp", "server_url": "u"}]}, Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "include": ["message.output_text.logprobs"]}, Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "reasoning": {"summary": "auto"}}, Reason.UNSUPPORTED_FEATURE),
        ({"store": False, "prompt": {"id": "pmpt_1"}}, Reason.UNSUPPORTED_FEATURE),
    ],
)  # fmt: skip
def test_responses_calls(body: dict[str, Any], expected: Reason | None) -> None:
    assert never_diverted(read_responses({"model": "gpt-4o", "input": "hi", **body})) is expected


def tool_loop(*call_ids: str, then: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in call_ids]
    results = [{"role": "tool", "tool_call_id": each, "content": "42"} for each in call_ids]
    return {"messages": [*USER, {"role": "assistant", "content": None, "tool_calls": calls}, *results, *(then or [])]}


OURS = SLM_TOOL_CALL_PREFIX + "1"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (tool_loop("call_1"), Reason.TOOL_LOOP_HELD),
        (tool_loop(OURS), None),
        (tool_loop(OURS, "call_1"), Reason.TOOL_LOOP_HELD),
        (tool_loop("call_1", then=[{"role": "assistant", "content": "It is 42."}, *USER]), None),
        (tool_loop("call_1", then=[{"role": "assistant", "content": "Wait."}]), Reason.TOOL_LOOP_HELD),
        ({"messages": [*USER, {"role": "tool", "content": "no id"}]}, Reason.TOOL_LOOP_HELD),
        ({"messages": [*USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                       {"role": "function", "name": "f", "content": "42"}]}, Reason.TOOL_LOOP_HELD),
    ],
)  # fmt: skip
def test_a_tool_loop_stays_with_whom_it_began(body: dict[str, Any], expected: Reason | None) -> None:
    assert never_diverted(read_chat(body)) is expected


def test_a_responses_tool_loop_stays_with_whom_it_began() -> None:
    def loop(call_id: str) -> Reason | None:
        items = [*USER, {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"},
                 {"type": "function_call_output", "call_id": call_id, "output": "42"}]  # fmt: skip
        return never_diverted(read_responses({"input": items, "store": False}))

    assert loop("call_1") is Reason.TOOL_LOOP_HELD
    assert loop(OURS) is None


@pytest.mark.parametrize(
    ("text", "fields", "limit", "expected"),
    [
        ("word " * 100, {}, None, False),
        ("word " * 100, {}, 512, False),
        ("word " * 100, {"max_tokens": 400}, 512, True),
        ("word " * 1000, {}, 1024, True),
        ("word " * 1_000_000, {}, 8192, True),
        ("字" * 300, {}, 512, True),
        ("字" * 100, {}, 512, False),
        ("x", {"tools": [{"type": "function", "function": {"name": "f", "description": "d " * 2000}}]}, 1024, True),
    ],
)
def test_a_call_that_may_not_fit_counts_as_too_long(
    text: str, fields: dict[str, Any], limit: int | None, expected: bool
) -> None:
    features = read_chat({"messages": [{"role": "user", "content": text}], **fields})
    assert exceeds_context(features, limit) is expected

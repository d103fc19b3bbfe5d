"""Chat ⇄ responses."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from proxy.wire import responses, translation
from proxy.wire.translation import Untranslatable

TOOL = {"type": "function", "name": "f", "description": None, "parameters": {"type": "object"}, "strict": True}


def test_a_whole_conversation_becomes_messages() -> None:
    request = {
        "model": "gpt",
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "[]"},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "f"},
        "max_output_tokens": 9,
        "temperature": 0,
        "store": True,
        "metadata": {"a": "b"},
        "stream": True,
    }
    assert translation.to_chat(request) == {
        "model": "gpt",
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "system", "content": "Rules."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Looking.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "[]"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "c2", "content": "rain"},
        ],
        "max_completion_tokens": 9,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }


def test_images_stay_parts() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,", "detail": "low"}]
    body = translation.to_chat({"input": [{"role": "user", "content": parts}]})
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}},
    ]


@pytest.mark.parametrize(
    ("text_format", "response_format"),
    [
        (
            {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
        ),
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "text"}, None),
    ],
)
def test_text_formats_become_response_formats(text_format: dict[str, Any], response_format: dict[str, Any]) -> None:
    body = translation.to_chat({"input": "x", "text": {"format": text_format}})
    assert body.get("response_format") == response_format


@pytest.mark.parametrize(
    "request_",
    [
        {"input": [{"type": "reasoning", "encrypted_content": "x"}]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        {"input": "x", "tools": [{"type": "web_search"}]},
        {"input": "x", "tools": [TOOL], "tool_choice": {"type": "allowed_tools"}},
        {"input": "x", "text": {"format": {"type": "grammar"}}},
        {"input": "x", "instructions": [{"role": "user", "content": "x"}]},
        {"input": [{"type": "function_call"}]},
        {"input": ["x"]},
        {"input": 3},
    ],
)
def test_what_chat_does_not_have_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        translation.to_chat(request_)


def completion(finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "slm",
        "choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def test_a_completion_becomes_a_response_that_the_official_client_takes() -> None:
    call = {"id": "call_us_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    response = translation.from_chat(completion(content="hi", tool_calls=[call]), {"tools": [TOOL], "temperature": 0})
    parsed = Response.model_validate(response)
    assert parsed.output_text == "hi"
    assert parsed.output[1].call_id == "call_us_1"
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 5
    assert (parsed.status, parsed.temperature, parsed.store if hasattr(parsed, "store") else False) == (
        "completed",
        0,
        False,
    )
    assert responses.assemble(responses.render(response)) == response


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_cut_completion_is_an_incomplete_response(finish_reason: str, reason: str) -> None:
    response = translation.from_chat(completion(finish_reason, content="h"), {})
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
    Response.model_validate(response)


def test_a_refusal_stays_one() -> None:
    response = translation.from_chat(completion(refusal="no"), {})
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "no"}]


def test_a_call_without_words_has_no_message() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    response = translation.from_chat(completion(content=None, tool_calls=[call]), {})
    assert [item["type"] for item in response["output"]] == ["function_call"]

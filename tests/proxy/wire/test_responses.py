"""Responses streams: put together, and spelled out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.wire import chat, responses, sse

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {
            "id": "fc_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "call_1",
            "name": "f",
            "arguments": '{"a":1}',
        },
    ],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 3,
    },
}


def recorded(streams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in streams if record["endpoint"] == "responses"]


def readable(item: dict[str, Any]) -> dict[str, Any]:
    """Encryption gives other bytes each time it is sent."""
    return {name: value for name, value in item.items() if name != "encrypted_content"}


def test_assembles_every_recorded_stream(recorded_streams: list[dict[str, Any]]) -> None:
    assert recorded(recorded_streams)
    for record in recorded(recorded_streams):
        want = {name: value for name, value in record["assembled"].items() if not name.startswith("_")}
        assert responses.assemble(record["sse"].encode()) == want


def test_a_cut_stream_gives_the_items_so_far(recorded_streams: list[dict[str, Any]]) -> None:
    for record in recorded(recorded_streams):
        stream = record["sse"].encode()
        without_end = stream[: stream.rindex(b"event: response.completed")]
        got = responses.assemble(without_end)
        assert got["status"] == "in_progress"
        assert [readable(item) for item in got["output"]] == [readable(i) for i in record["assembled"]["output"]]


def test_a_stream_cut_in_the_middle_of_a_text_gives_the_text_so_far() -> None:
    stream = responses.render(RESPONSE)
    cut = responses.assemble(stream[: stream.index(b"event: response.output_text.done")])
    assert cut["output"][0]["content"][0]["text"] == "hello"
    cut = responses.assemble(stream[: stream.index(b"event: response.function_call_arguments.done")])
    assert cut["output"][1]["arguments"] == '{"a":1}'
    assert cut["status"] == "in_progress"


def test_an_error_event_becomes_the_responses_error() -> None:
    stream = sse.encode(b'{"type":"error","code":"server_error","message":"overloaded"}', "error")
    assert responses.assemble(stream)["error"] == {"code": "server_error", "message": "overloaded"}


def test_rendered_events_are_what_the_official_client_expects() -> None:
    Response.model_validate(RESPONSE)
    stream = responses.render(RESPONSE)
    events = list(sse.parse(stream))
    for number, event in enumerate(events):
        parsed = EVENT.validate_json(event.data)
        assert parsed.type == event.name
        assert parsed.sequence_number == number
    assert [event.name for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.content_part.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert responses.assemble(stream) == RESPONSE


def test_rendered_events_have_the_fields_of_recorded_ones(recorded_streams: list[dict[str, Any]]) -> None:
    theirs: dict[str, set[str]] = {}
    for record in recorded(recorded_streams):
        for event in chat.chunks(record["sse"].encode()):
            theirs.setdefault(event["type"], set()).update(event)
    for event in chat.chunks(responses.render(RESPONSE)):
        if event["type"] in theirs:
            assert theirs[event["type"]] - set(event) <= {"obfuscation"}, event["type"]


@pytest.mark.parametrize("junk", [b"", b"data: 1\n\n", b'data: {"type":"response.output_text.delta"}\n\n'])
def test_junk_gives_an_empty_response(junk: bytes) -> None:
    assert responses.assemble(junk)["output"] == []


def test_an_incomplete_response_ends_with_its_own_event() -> None:
    stream = responses.render(RESPONSE | {"status": "incomplete"})
    assert orjson.loads(list(sse.parse(stream))[-1].data)["type"] == "response.incomplete"

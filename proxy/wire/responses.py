"""Responses: the stream that spells a response, both ways.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from proxy.wire import chat, sse


def assemble(stream: bytes) -> dict[str, Any]:
    """Put a stream's events together.

    A whole stream carries the whole response in its last event. A cut one gives what was seen: the response as it was
    created, with the items so far, and its `status` still `in_progress`. An `error` event becomes its `error`.

    Args:
        stream: as the client received it.
    """
    response: dict[str, Any] = {"object": "response", "output": []}
    items: dict[int, dict[str, Any]] = {}
    for event in chat.chunks(stream):
        kind = event.get("type")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            if isinstance(whole := event.get("response"), dict):
                return whole
        elif isinstance(begun := event.get("response"), dict):
            response = begun
        elif kind in ("response.output_item.added", "response.output_item.done"):
            if isinstance(item := event.get("item"), dict):
                items[event.get("output_index", len(items))] = item
        elif kind == "error" or "error" in event:
            response["error"] = event.get("error", {k: v for k, v in event.items() if k != "type"})
        elif (item := items.get(event.get("output_index", -1))) is not None:
            _grow(item, event)
    if items:
        response["output"] = [items[index] for index in sorted(items)]
    return response


def _grow(item: dict[str, Any], event: Mapping[str, Any]) -> None:
    """Add one delta to an unfinished item."""
    delta = event.get("delta")
    match event.get("type"):
        case "response.content_part.added":
            item.setdefault("content", []).append(event.get("part"))
        case "response.reasoning_summary_part.added":
            item.setdefault("summary", []).append(event.get("part"))
        case _ if not isinstance(delta, str):
            pass
        case "response.output_text.delta" if item.get("content"):
            _continue(item["content"][-1], "text", delta)
        case "response.refusal.delta" if item.get("content"):
            _continue(item["content"][-1], "refusal", delta)
        case "response.reasoning_summary_text.delta" if item.get("summary"):
            _continue(item["summary"][-1], "text", delta)
        case "response.function_call_arguments.delta" | "response.mcp_call_arguments.delta":
            _continue(item, "arguments", delta)


def _continue(part: dict[str, Any], field: str, text: str) -> None:
    part[field] = (part.get(field) or "") + text


def render(response: Mapping[str, Any]) -> bytes:
    """Spell a response as the events that a client with `stream: true` expects.

    Args:
        response: finished; its items are messages and function calls.
    """
    return b"".join(
        sse.encode(orjson.dumps({"type": kind, "sequence_number": number} | fields), kind)
        for number, (kind, fields) in enumerate(_events(response))
    )


def _events(response: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each event's type and its other fields, in order."""
    unfinished: dict[str, Any] = {
        "status": "in_progress",
        "output": [],
        "usage": None,
        "completed_at": None,
        "incomplete_details": None,
    }
    begun = {"response": dict(response) | unfinished}
    yield "response.created", begun
    yield "response.in_progress", begun
    for index, item in enumerate(response["output"]):
        is_message = item["type"] == "message"
        empty: dict[str, Any] = {"content": []} if is_message else {"arguments": ""}
        added = dict(item) | {"status": "in_progress"} | empty
        yield "response.output_item.added", {"output_index": index, "item": added}
        where = {"item_id": item["id"], "output_index": index}
        yield from _message_events(where, item) if is_message else _call_events(where, item)
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield f"response.{response['status']}", {"response": response}


def _message_events(where: dict[str, Any], item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part of a message: a text, or a refusal."""
    for content_index, part in enumerate(item["content"]):
        here = where | {"content_index": content_index}
        field, kind = ("refusal", "response.refusal") if part["type"] == "refusal" else ("text", "response.output_text")
        text = part[field]
        logprobs: dict[str, Any] = {} if field == "refusal" else {"logprobs": part.get("logprobs") or []}
        empty: dict[str, Any] = {field: ""} | {name: [] for name in logprobs}
        yield "response.content_part.added", {**here, "part": dict(part) | empty}
        if text:
            yield f"{kind}.delta", {**here, "delta": text, **logprobs}
        yield f"{kind}.done", {**here, field: text, **logprobs}
        yield "response.content_part.done", {**here, "part": part}


def _call_events(where: dict[str, Any], item: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A function call's arguments."""
    arguments = item["arguments"]
    if arguments:
        yield "response.function_call_arguments.delta", {**where, "delta": arguments}
    yield "response.function_call_arguments.done", {**where, "arguments": arguments, "name": item["name"]}

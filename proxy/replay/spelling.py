"""Whole answers as the streams that a provider would have sent: a word or so an event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.replay.recordings import Recording
from proxy.wire import chat, responses, sse

_WORD = re.compile(r"\S+\s*|\s+")
_ARGUMENTS_CHARS = 12


def spell(found: Recording, request: dict[str, Any]) -> bytes:
    """An answer as a stream: the recorded one byte for byte, else one that is made of the whole answer."""
    if found.sse is not None:
        return found.sse
    options = request.get("stream_options")
    include_usage = isinstance(options, dict) and options.get("include_usage") is True
    match found.endpoint:
        case "chat":
            events = chat.chunks(chat.render(found.response, include_usage=include_usage))
            return b"".join(sse.encode(orjson.dumps(chunk)) for event in events for chunk in _words(event)) + sse.DONE
        case "responses":
            numbered = enumerate(
                part for event in chat.chunks(responses.render(found.response)) for part in _parts(event)
            )
            return b"".join(
                sse.encode(orjson.dumps(event | {"sequence_number": number}), event["type"])
                for number, event in numbered
            )
    return b"".join(sse.encode(orjson.dumps(chunk)) for chunk in _texts(found.response, include_usage)) + sse.DONE


def _words(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A chunk of a chat completion in smaller ones: a word of content, or a piece of a tool call's arguments, each."""
    [choice] = chunk["choices"] or [{"delta": {}}]
    match choice["delta"]:
        case {"content": str(content)} if content:
            deltas: list[dict[str, Any]] = [{"content": word} for word in _WORD.findall(content)]
        case {"tool_calls": [{"index": index, "function": {"arguments": str(arguments)}} as call]} if "id" not in call:
            deltas = [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in _pieces(arguments)
            ]
        case _:
            yield chunk
            return
    for number, delta in enumerate(deltas):
        logprobs = None if number else choice.get("logprobs")
        yield chunk | {"choices": [choice | {"delta": delta, "logprobs": logprobs}]}


def _parts(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An event of a response in smaller ones, in the same way."""
    delta = event.get("delta")
    if not isinstance(delta, str):
        yield event
        return
    for piece in _WORD.findall(delta) if event["type"] == "response.output_text.delta" else _pieces(delta):
        yield event | {"delta": piece}


def _texts(completion: dict[str, Any], include_usage: bool) -> Iterator[dict[str, Any]]:
    """A legacy completion's chunks."""
    for choice in completion.get("choices", ()):
        reason = choice.get("finish_reason") or "stop"
        for text, ending in [(word, None) for word in _WORD.findall(choice["text"])] + [("", reason)]:
            yield completion | {"choices": [choice | {"text": text, "finish_reason": ending}], "usage": None}
    if include_usage:
        yield completion | {"choices": []}


def _pieces(text: str) -> list[str]:
    return [text[start : start + _ARGUMENTS_CHARS] for start in range(0, len(text), _ARGUMENTS_CHARS)]

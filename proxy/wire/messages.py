"""Anthropic's messages, which some clients call through the same upstream: a stream's blocks put together.

https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson

from proxy.wire import chat


def assemble(stream: bytes) -> dict[str, Any]:
    """Put a stream's content blocks together.

    Args:
        stream: as the client received it.

    Returns:
        The message; `stop_reason` is None where the stream was cut. A tool's input is parsed; where it was cut, it is
        the text so far.

    Raises:
        KeyError: an event without the fields that its type has.
    """
    message: dict[str, Any] = {"type": "message"}
    blocks: dict[int, dict[str, Any]] = {}
    for event in chat.chunks(stream):
        match event.get("type"):
            case "message_start":
                message |= event["message"]
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                _grow(blocks.setdefault(event["index"], {}), event["delta"])
            case "message_delta":
                message |= event["delta"]
                message["usage"] = (message.get("usage") or {}) | (event.get("usage") or {})
            case "error":
                message["error"] = event.get("error")
    message["content"] = [_finished(blocks[index]) for index in sorted(blocks)]
    return message


def _grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta.get("type"):
        case "text_delta":
            block["text"] = block.get("text", "") + delta["text"]
        case "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
        case "signature_delta":
            block["signature"] = block.get("signature", "") + delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        case "input_json_delta":
            block["input"] = (block["input"] if isinstance(block.get("input"), str) else "") + delta["partial_json"]


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    if isinstance(block.get("input"), str):
        with suppress(orjson.JSONDecodeError):
            block["input"] = orjson.loads(block["input"] or "{}")
    return block

"""Past calls from other tools' logs, as records. Nothing is half imported: a file is read whole before a row is written.

jsonl        `{"request", "response"}` a line, as in our own recordings
openai-chat  OpenAI's fine-tuning rows (`{"messages": […]}`, the last one the answer) and batch files
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from proxy.replay.recordings import RecordingBroken, as_completion, lines, read_recordings
from storage.records import CallRecord


def read_calls(path: Path, format: str) -> list[CallRecord]:  # noqa: A002
    """Read a log.

    Args:
        format: `jsonl` or `openai-chat`.

    Returns:
        Records in the file's order, with ids made of their content and place, so that importing twice adds nothing.

    Raises:
        RecordingBroken: naming the line and what is wrong with it.
    """
    rows = _recordings(path) if format == "jsonl" else _openai_chat(path)
    found = [_record(format, number, *row) for number, row in enumerate(rows)]
    if not found:
        raise RecordingBroken(f"{path}: there is no call in it")
    return found


Row = tuple[str, dict[str, Any], dict[str, Any], int, bytes | None]


def _recordings(path: Path) -> Iterator[Row]:
    for recording in read_recordings(path):
        yield recording.endpoint, recording.request, recording.response, recording.status, recording.sse


def _openai_chat(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RecordingBroken(f"{path}, line {number}: not JSON: {error}") from error
        messages = row.get("messages") if isinstance(row, dict) else None
        if not isinstance(messages, list) or len(messages) < 2 or not isinstance(messages[-1], dict):
            raise RecordingBroken(f'{path}, line {number}: no "messages" list with a prompt and an answer')
        if messages[-1].get("role") != "assistant":
            raise RecordingBroken(f"{path}, line {number}: the last message is not the assistant's answer")
        request = {name: value for name, value in row.items() if name != "messages"} | {"messages": messages[:-1]}
        yield "chat", request, as_completion(messages[-1], request), 200, None


def _record(
    format: str,  # noqa: A002
    place: int,
    endpoint: str,
    request: dict[str, Any],
    response: dict[str, Any],
    status: int,
    sse: bytes | None,
) -> CallRecord:
    sent, got = orjson.dumps(request), sse or orjson.dumps(response)
    created = response.get("created") or response.get("created_at")
    at_ms = int(created * 1000) if isinstance(created, int | float) and created > 0 else int(time.time() * 1000)
    return CallRecord(
        call_id=_call_id(at_ms if created else 0, sent + got + place.to_bytes(8, "big")),
        arrived_at_ns=at_ms * 1_000_000,
        method="POST",
        path="/v1/chat/completions" if endpoint == "chat" else "/v1/responses",
        endpoint=endpoint,
        status=status,
        served_by="llm",
        upstream="llm",
        reason="",
        duration_ms=0.0,
        first_token_ms=None,
        ended="finished",
        request_body=sent,
        response_body=got,
        request_content_type="application/json",
        response_content_type="text/event-stream" if sse else "application/json",
        source=f"import:{format}",
    )


def _call_id(at_ms: int, content: bytes) -> bytes:
    """A UUIDv7 whose random part is a hash: the same call gets the same id."""
    digest = bytearray(hashlib.blake2b(content, digest_size=10).digest())
    digest[0] = 0x70 | (digest[0] & 0x0F)
    digest[2] = 0x80 | (digest[2] & 0x3F)
    return at_ms.to_bytes(6, "big") + bytes(digest)

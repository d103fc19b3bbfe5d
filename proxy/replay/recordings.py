"""Recorded calls, from JSON lines, gzipped or not: `{"request": …, "response": …}`, or with `sse` for exact streams."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson

from proxy.errors import UnderstudyError


class RecordingBroken(UnderstudyError):
    """A file that can't be read as recorded calls; the message names the line."""

    code = "recording_broken"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded call.

    Attributes:
        endpoint: `chat` or `responses`.
        response: a completion or a response; a bare assistant message has been made one.
        sse: the stream's exact bytes, where it was recorded as one.
        line: in its file, from 1.
    """

    endpoint: str
    request: dict[str, Any]
    response: dict[str, Any]
    status: int
    sse: bytes | None
    line: int


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that aren't blank.

    Raises:
        RecordingBroken: the file can't be read.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise RecordingBroken(f"{path}: can't be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_recordings(path: Path) -> Iterator[Recording]:
    """Read a file of recorded calls; rows without a request are an error.

    Raises:
        RecordingBroken: naming the line and what is wrong with it.
    """
    for number, line in lines(path):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RecordingBroken(f"{path}, line {number}: not JSON: {error.msg}, column {error.colno}") from error
        request = row.get("request") if isinstance(row, dict) else None
        if not isinstance(request, dict):
            raise RecordingBroken(f'{path}, line {number}: no "request" object')
        response = row.get("response", row.get("assembled"))
        if not isinstance(response, dict):
            raise RecordingBroken(f'{path}, line {number}: no "response" object')
        meta = row.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        endpoint = "responses" if "input" in request and "messages" not in request else "chat"
        sse = row.get("sse")
        yield Recording(
            endpoint,
            request,
            as_completion(response, request) if endpoint == "chat" else response,
            int(row.get("status") or meta.get("status") or 200),
            sse.encode() if isinstance(sse, str) else None,
            number,
        )


def as_completion(response: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """A bare assistant message as the completion around it; anything else as it is."""
    if "choices" in response or "error" in response or "role" not in response:
        return response
    finish = "tool_calls" if response.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-recorded",
        "object": "chat.completion",
        "created": 0,
        "model": str(request.get("model") or "recorded"),
        "choices": [{"index": 0, "message": response, "logprobs": None, "finish_reason": finish}],
    }

"""Recorded calls: `{"request", "response"}` a row, or with `sse` for exact streams; JSON lines or a list, gzipped or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.imports.messages import completion
from proxy.imports.rows import FileBroken, Malformed, Row, Rows, mapping, text


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded call.

    Attributes:
        endpoint: `chat`, `responses`, `completions` or `anthropic`.
        response: the answer's value; a bare assistant message has been made a completion.
        sse: the stream's exact bytes, where it was recorded as one.
        conversation: what the recording says it belongs to; empty where it doesn't say.
    """

    endpoint: str
    request: dict[str, Any]
    response: dict[str, Any]
    status: int = 200
    sse: bytes | None = None
    conversation: str = ""


def read_recordings(path: Path) -> Iterator[Recording]:
    """Read a file of recorded calls; calls whose answer is null are passed over.

    Raises:
        FileBroken: naming the line and what is wrong with it.
    """
    rows = Rows(path)
    try:
        for row in rows:
            if row.get("response", row.get("assembled")) is not None or "sse" in row:
                yield _recording(row)
            elif "response" not in row:
                raise Malformed('no "response" object')
    except Malformed as error:
        raise FileBroken(f"{path}, {rows.where}: {error}") from error


def _recording(row: Row) -> Recording:
    request, response = row.get("request"), row.get("response", row.get("assembled") or {})
    if not isinstance(request, dict):
        raise Malformed('no "request" object')
    if not isinstance(response, dict):
        raise Malformed('no "response" object')
    meta = mapping(row.get("meta"))
    status, stream = row.get("status", meta.get("status", 200)), row.get("sse")
    if not isinstance(status, int) or not isinstance(stream, str | None):
        raise Malformed('"status" is no number, or "sse" no text')
    return Recording(
        endpoint=text(row.get("endpoint")) or text(meta.get("endpoint")) or endpoint_of(request),
        request=request,
        response=as_completion(response, request),
        status=status,
        sse=stream.encode() if stream is not None else None,
        conversation=text(row.get("session")) or "",
    )


def endpoint_of(request: dict[str, Any]) -> str:
    """Where a request goes, by its form."""
    if "messages" in request:
        return "chat"
    return "responses" if "input" in request else "completions"


def as_completion(response: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """A bare assistant message as the completion around it; anything else as it is."""
    if "role" not in response or "choices" in response or "type" in response:
        return response
    model = str(request.get("model") or "recorded")
    return completion([response], model=model, identity="chatcmpl-recorded")

"""One past call, whichever log it comes from, and the record that it becomes."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import Any

import orjson

from proxy.imports.rows import Malformed
from proxy.wire.endpoint import Endpoint, classify
from storage.records import CallRecord

_PATHS = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
}
_EVENT_STREAM = "text/event-stream"
_ANTHROPIC = "/v1/messages"


@dataclass(frozen=True, kw_only=True)
class PastCall:
    """What a log knows of a call.

    Attributes:
        request: the body that the client sent, or would have sent to OpenAI.
        answer: its body, as a value; or the exact bytes of its stream.
        path: as in the request line; found out from the bodies where the log doesn't tell.
        at: when it arrived, aware; None where the log doesn't tell.
        duration_ms: from arrival to the answer's end, 0 where unknown.
        first_token_ms: from arrival to the first byte of the answer.
        identity: the log's own id of the call, where it has one that is unique.
    """

    request: dict[str, Any]
    answer: dict[str, Any] | bytes
    path: str | None = None
    status: int = 200
    at: datetime | None = None
    duration_ms: float = 0.0
    first_token_ms: float | None = None
    identity: str | None = None
    agent: str | None = None
    session: str | None = None

    @cached_property
    def fingerprint(self) -> bytes:
        """What tells this call from others: its identity, else all that it says."""
        said = self.identity.encode() if self.identity else b"%r%b%b" % (self.at, self._sent, self._received)
        return hashlib.blake2b(said, digest_size=16).digest()

    @cached_property
    def _sent(self) -> bytes:
        return orjson.dumps(self.request)

    @cached_property
    def _received(self) -> bytes:
        return self.answer if isinstance(self.answer, bytes) else orjson.dumps(self.answer)

    def record(self, format: str, occurrence: int) -> CallRecord:  # noqa: A002
        """The call as the log keeps it.

        Args:
            format: of the file it comes from.
            occurrence: how many times this very call was in the file so far, from 1. An agent may well send the same
                request twice and get the same answer; those are two calls.
        """
        path = self.path or _PATHS[_endpoint_of(self.request)]
        at_ns = time.time_ns() if self.at is None else int(self.at.timestamp() * 1e6) * 1000
        return CallRecord(
            call_id=_call_id(self.at, format, self.fingerprint, occurrence),
            arrived_at_ns=at_ns,
            method="POST",
            path=path,
            endpoint=classify("POST", path),
            status=self.status,
            served_by="llm",
            upstream="llm",
            reason="",
            duration_ms=self.duration_ms,
            first_token_ms=self.first_token_ms,
            ended="finished",
            request_body=self._sent,
            response_body=self._received,
            request_content_type="application/json",
            response_content_type=_EVENT_STREAM if isinstance(self.answer, bytes) else "application/json",
            agent=self.agent,
            session=self.session,
            source=f"import:{format}",
        )


def _endpoint_of(request: dict[str, Any]) -> Endpoint:
    if "messages" in request:
        return Endpoint.CHAT
    if "input" in request:
        return Endpoint.RESPONSES
    if "prompt" in request:
        return Endpoint.COMPLETIONS
    raise Malformed('the request has neither "messages" nor "input" nor "prompt"')


def path_of(endpoint: str) -> str | None:
    """The path of an endpoint's name, as logs give it; None where it says nothing that we know."""
    if endpoint == "anthropic":
        return _ANTHROPIC
    return _PATHS.get(Endpoint(endpoint)) if endpoint in {known.value for known in _PATHS} else None


def _call_id(at: datetime | None, format: str, fingerprint: bytes, occurrence: int) -> bytes:  # noqa: A002
    """A UUIDv7 (RFC 9562 §5.7) whose random part is a hash: the same call gets the same id, in every import."""
    milliseconds = 0 if at is None else int(at.timestamp() * 1000)
    digest = bytearray(
        hashlib.blake2b(b"%b %d %b" % (format.encode(), occurrence, fingerprint), digest_size=10).digest()
    )
    digest[0] = 0x70 | (digest[0] & 0x0F)
    digest[2] = 0x80 | (digest[2] & 0x3F)
    return milliseconds.to_bytes(6, "big") + bytes(digest)


def moment(value: Any) -> datetime | None:
    """When something happened, as logs write it.

    Args:
        value: ISO 8601 (UTC where it names no zone), or seconds, milliseconds, microseconds or nanoseconds since the
            epoch, also as a string; told apart by their size, which is unambiguous from 1973 on.

    Raises:
        Malformed: none of these.
    """
    if value is None or value == "":
        return None
    try:
        stamp = float(value)
    except (TypeError, ValueError):
        pass
    else:
        if not isfinite(stamp):
            raise Malformed(f"{value!r} is not a time")
        while stamp > 1e11:
            stamp /= 1000
        try:
            return datetime.fromtimestamp(stamp, UTC) if stamp > 0 else None
        except (OverflowError, OSError, ValueError) as error:
            raise Malformed(f"{value!r} is not a time") from error
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise Malformed(f"{value!r} is not a time") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def milliseconds(begin: datetime | None, end: datetime | None) -> float | None:
    """From one moment to another; None where one is unknown or they are the wrong way round."""
    if begin is None or end is None or end < begin:
        return None
    return (end - begin).total_seconds() * 1000

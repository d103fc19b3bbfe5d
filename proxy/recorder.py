"""One call becomes one record: counted, and in the spool before the client can believe that its answer is complete."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from proxy.headers import Header, find
from proxy.logs import OncePerMinute
from proxy.metrics import Metrics
from storage.cipher import Cipher
from storage.errors import SpoolFull
from storage.ids import format_call_id, new_call_id
from storage.records import Attempt, CallRecord
from storage.spool import Spool

if TYPE_CHECKING:
    from proxy.wire.endpoint import Endpoint
    from router.decision import Decision

log = structlog.get_logger()

MAX_TAG_CHARS = 200
MAX_KEPT_ORIGINS = 1024
_LEVELS = ("off", "metadata", "redacted", "full")


def lower_level(configured: str, asked: bytes) -> str:
    """What is kept of a call: a client may ask for less than is configured, never for more."""
    wanted = asked.decode("latin-1").strip().lower()
    if wanted not in _LEVELS:
        return configured
    return min(configured, wanted, key=_LEVELS.index)


@dataclass(slots=True)
class CallLog:
    """What is known of a call while it runs; `Recorder.record` makes it last."""

    method: str
    path: str
    endpoint: Endpoint
    headers: list[Header]
    arrived_at_ns: int = field(default_factory=time.time_ns)
    began: float = field(default_factory=time.perf_counter)
    call_id: bytes = field(default_factory=new_call_id)
    request_body: bytes = b""
    decision: Decision | None = None
    reason: str = ""
    status: int = 0
    served_by: str = "llm"
    upstream: str = "llm"
    model_resolved: str | None = None
    response_content_type: str = ""
    response_content_encoding: str = ""
    upstream_request_id: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    answer: list[bytes] = field(default_factory=list)
    first_byte: float | None = None
    waited_seconds: float = 0.0
    recorded: bool = False

    @property
    def shown_id(self) -> str:
        """The id as clients see it."""
        return format_call_id(self.call_id)

    @property
    def cluster_id(self) -> str | None:
        """The matched cluster."""
        return self.decision.cluster_id if self.decision else None


class Recorder:
    """Writes records; a call that can't be logged is served all the same, and counted as lost."""

    def __init__(self, spool: Spool, metrics: Metrics, cipher: Cipher, level: str) -> None:
        self._spool = spool
        self._metrics = metrics
        self._cipher = cipher
        self._level = level
        self._origins: dict[bytes, bytes] = {}
        self._log_now = OncePerMinute()

    def record(self, call: CallLog, ended: str) -> None:
        """Log and count a call, once; later calls for the same one do nothing."""
        if call.recorded:
            return
        call.recorded = True
        took = time.perf_counter() - call.began
        first = None if call.first_byte is None else call.first_byte - call.began
        self._metrics.observe_call(
            call.endpoint.value,
            call.served_by,
            call.status,
            call.reason,
            call.cluster_id,
            took,
            max(took - call.waited_seconds, 0.0),
            first,
        )
        level = lower_level(self._level, find(call.headers, b"x-understudy-log"))
        if level == "off":
            return
        record = CallRecord(
            call_id=call.call_id,
            arrived_at_ns=call.arrived_at_ns,
            method=call.method,
            path=call.path,
            endpoint=call.endpoint.value,
            status=call.status,
            served_by=call.served_by,
            upstream=call.upstream,
            reason=call.reason,
            duration_ms=took * 1000,
            first_token_ms=None if first is None else first * 1000,
            ended=ended,
            # Kept for the shipper to count tokens; it stores no bodies of calls logged as `metadata`.
            request_body=call.request_body,
            response_body=b"".join(call.answer),
            request_content_type=_text(find(call.headers, b"content-type")),
            response_content_type=call.response_content_type,
            response_content_encoding=call.response_content_encoding,
            model_resolved=call.model_resolved,
            cluster_id=call.cluster_id,
            snapshot_id=call.decision.snapshot_id if call.decision else None,
            origin=self._origin(find(call.headers, b"authorization")),
            agent=_tag(call.headers, b"x-understudy-agent"),
            session=_tag(call.headers, b"x-understudy-session"),
            call_site=_tag(call.headers, b"x-understudy-call-site"),
            upstream_request_id=call.upstream_request_id,
            attempts=tuple(call.attempts),
            log=level,
        )
        try:
            self._spool.append(record)
        except SpoolFull as error:
            self._metrics.count_lost_call()
            if self._log_now("lost"):
                log.error("call.not_logged", call=call.shown_id, error=str(error))

    def _origin(self, authorization: bytes) -> bytes:
        """Keyed hash of the credential: tells origins apart, and names nobody."""
        if not authorization:
            return b""
        found = self._origins.get(authorization)
        if found is None:
            found = self._cipher.keyed_hash(authorization, b"origins")
            if len(self._origins) < MAX_KEPT_ORIGINS:
                self._origins[authorization] = found
        return found


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _tag(headers: list[Header], name: bytes) -> str | None:
    return _text(find(headers, name))[:MAX_TAG_CHARS] or None

"""One call becomes one record: counted, and in the spool before the client can believe that its answer is complete."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from proxy.logs import OncePerMinute
from proxy.metrics import Metrics
from proxy.transport.headers import Headers
from proxy.wire.endpoint import Endpoint
from storage.cipher import Cipher
from storage.errors import SpoolFull
from storage.ids import format_call_id, new_call_id
from storage.records import Attempt, CallRecord
from storage.spool import Spool

if TYPE_CHECKING:
    from proxy.keys import Key
    from router.decision import Decision

log = structlog.get_logger()

MAX_TAG_CHARS = 200
MAX_KEPT_ORIGINS = 1024
MAX_KEPT_ANSWER_BYTES = 64 * 2**20
MAX_KEPT_UPLOAD_BYTES = 16 * 2**20
#: Records beyond this are encrypted and written in a thread: 1 MiB takes 1 ms.
APPEND_IN_THREAD_BYTES = 2**20
_LEVELS = ("off", "metadata", "redacted", "full")
#: Endpoints whose request is what the model was asked, and no file.
_OF_WORDS = frozenset({Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS})


def lower_level(configured: str, headers: Headers) -> str:
    """What is kept of a call: a client may ask for less than is configured, never for more.

    Who sends `x-understudy-log` at all wants something kept back: a value that means nothing counts as `metadata`.
    """
    level = configured
    for name, value in headers:
        if name == b"x-understudy-log":
            wanted = value.decode("latin-1").strip().lower()
            level = min(level, wanted if wanted in _LEVELS else "metadata", key=_LEVELS.index)
    return level


@dataclass(slots=True)
class CallLog:
    """What is known of a call while it runs; `Recorder.record` makes it last.

    Attributes:
        target: path and query as they came.
        fields: the request's headers by name, for looking up; `headers` has them in order, with repetitions.
        key: of the proxy's own, that the call carries.
        credential: what its origin is a hash of, where that is not the `Authorization` that it came with.
        has_begun: the client has got the head of an answer.
        ended, log: as in its record; empty until it is recorded, or where it isn't.
    """

    method: str
    target: bytes
    endpoint: Endpoint
    headers: Headers
    fields: dict[bytes, bytes] = field(init=False)
    arrived_at_ns: int = field(default_factory=time.time_ns)
    began: float = field(default_factory=time.perf_counter)
    call_id: bytes = field(default_factory=new_call_id)
    request_body: bytes = b""
    key: Key | None = None
    credential: bytes | None = None
    decision: Decision | None = None
    reason: str = ""
    status: int = 0
    served_by: str = "llm"
    upstream: str = "llm"
    model_resolved: str | None = None
    response_content_type: str = ""
    response_content_encoding: str = ""
    response_has_length: bool = False
    upstream_request_id: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    answer: list[bytes] = field(default_factory=list)
    answer_bytes: int = 0
    has_begun: bool = False
    first_byte: float | None = None
    waited_seconds: float = 0.0
    recorded: bool = False
    ended: str = ""
    log: str = ""

    def __post_init__(self) -> None:
        self.fields = dict(self.headers)

    def keep(self, piece: bytes) -> None:
        """Remember a piece of the answer; what is beyond `MAX_KEPT_ANSWER_BYTES` is relayed and not kept."""
        self.answer_bytes += len(piece)
        if self.answer_bytes <= MAX_KEPT_ANSWER_BYTES:
            self.answer.append(piece)

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

    async def record(self, call: CallLog, ended: str) -> None:
        """Log and count a call, once; later calls for the same one do nothing. When it returns, the record is safe."""
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
            fell_back=bool(call.attempts) and call.served_by == "llm",
        )
        level = self._level
        if call.key is not None:
            level = min(level, call.key.max_log, key=_LEVELS.index)
        if b"x-understudy-log" in call.fields:
            level = lower_level(level, call.headers)
        if level == "off":
            return
        record = self._record(call, ended, level, took, first)
        call.ended, call.log = ended, record.log
        if len(record.request_body) + len(record.response_body) > APPEND_IN_THREAD_BYTES:
            await asyncio.get_running_loop().run_in_executor(None, self._append, record)
        else:
            self._append(record)

    def _record(self, call: CallLog, ended: str, level: str, took: float, first: float | None) -> CallRecord:
        body, fields = call.request_body, call.fields
        if len(body) > MAX_KEPT_UPLOAD_BYTES and call.endpoint not in _OF_WORDS:
            body, level = b"", "metadata"
        return CallRecord(
            call_id=call.call_id,
            arrived_at_ns=call.arrived_at_ns,
            method=call.method,
            path=_text(call.target),
            endpoint=call.endpoint.value,
            status=call.status,
            served_by=call.served_by,
            upstream=call.upstream,
            reason=call.reason,
            duration_ms=took * 1000,
            first_token_ms=None if first is None else first * 1000,
            ended=ended,
            # Kept for the shipper to count tokens; it stores no bodies of calls logged as `metadata`.
            request_body=body,
            response_body=call.answer[0] if len(call.answer) == 1 else b"".join(call.answer),
            request_content_type=_text(fields.get(b"content-type", b"")),
            response_content_type=call.response_content_type,
            response_content_encoding=call.response_content_encoding,
            model_resolved=call.model_resolved,
            cluster_id=call.cluster_id,
            snapshot_id=call.decision.snapshot_id if call.decision else None,
            origin=self._origin(call.credential or fields.get(b"authorization", b"")),
            agent=_tag(fields, b"x-understudy-agent"),
            session=_tag(fields, b"x-understudy-session"),
            call_site=_tag(fields, b"x-understudy-call-site"),
            upstream_request_id=call.upstream_request_id,
            attempts=tuple(call.attempts),
            log=level,
            traceparent=_tag(fields, b"traceparent"),
        )

    def _append(self, record: CallRecord) -> None:
        try:
            self._spool.append(record)
        except SpoolFull as error:
            self._metrics.count_lost_call()
            if self._log_now("lost"):
                log.error("call.not_logged", call=format_call_id(record.call_id), error=str(error))

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


def _tag(fields: dict[bytes, bytes], name: bytes) -> str | None:
    return _text(fields.get(name, b""))[:MAX_TAG_CHARS] or None

"""Shadow and audit copies: a second answer to a call whose client has its own already.

    shadow   a task's SLM answers what the LLM has answered, exactly as if it served the task already; also one that did
             serve it, until what it did of late is no longer held against it
    audit    the LLM answers what an SLM has served

They tell whether an SLM may be promoted, and whether it may stay. No client waits for a copy or sees one: a worker
makes a few at once, keeps a few more waiting, and lets go of the rest. What is answered goes into the spool like a
call, and nobody's credential goes with it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import orjson
import structlog

from proxy.auth import Gate
from proxy.errors import UpstreamError, UpstreamTimeout
from proxy.logs import OncePerMinute
from proxy.metrics import Metrics
from proxy.money.copy_budget import CopyBudget
from proxy.relay.reading import read_request
from proxy.relay.recorder import APPEND_IN_THREAD_BYTES, CallLog
from proxy.serving import Serving
from proxy.settings import Settings
from proxy.slm.attempts import Declined, SlmTransport
from proxy.slm.client import confidence_of
from proxy.transport.headers import Headers, find, for_upstream
from proxy.transport.upstreams import Llm
from proxy.wire.endpoint import Endpoint
from proxy.wire.sse import FinalEvent
from router.decision import Reason
from router.promotion import Promotion, Stage
from storage.errors import SpoolFull
from storage.ids import format_call_id, new_call_id
from storage.records import CopyRecord
from storage.spool import Spool

log = structlog.get_logger()

#: Copies that wait, for each that may be in flight; and the bodies that they may hold in memory.
WAITING_FOR_EACH = 4
MAX_WAITING_BYTES = 32 * 2**20
#: What copies in flight get at shutdown.
CLOSE_SECONDS = 2.0
PAUSE_SECONDS = 60.0
MAX_PAUSE_SECONDS = 3600.0
_WITH_BODIES = frozenset({"full", "redacted"})
_REHEARSED = frozenset({Reason.SHADOW_ONLY, Reason.CANARY_HELD_BACK, Reason.IN_DOUBT, Reason.TOOL_LOOP_HELD})
_STAGES = frozenset({Stage.SHADOW, Stage.CANARY})


class Kind(StrEnum):
    """Who is asked beside the one who served."""

    SHADOW = "shadow"
    AUDIT = "audit"


class Outcome(StrEnum):
    """How a copy ended; beside these, a `Reason` for which an SLM's answer would not have been served."""

    ANSWERED = "answered"
    LLM_ERROR = "llm_error"
    LLM_TIMEOUT = "llm_timeout"


class Left(StrEnum):
    """Why a copy was not made, or not kept. Of these there is no record, only the metric."""

    QUEUE_FULL = "queue_full"
    OVER_BUDGET = "over_budget"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting_down"
    NOT_LOGGED = "not_logged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Copied:
    """What is needed of a call to make a copy.

    Attributes:
        promotion: that served it; None for a shadow, which is given to whom it would be given when its turn comes.
        headers: with the client's credential: they go to the LLM or nowhere.
    """

    kind: Kind
    call_id: bytes
    endpoint: Endpoint
    method: str
    target: bytes
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    log: str
    promotion: Promotion | None


class Copies:
    """One worker's copies."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        serving: Serving,
        slm: SlmTransport,
        llm: Llm,
        gate: Gate,
        spool: Spool,
        budget: CopyBudget,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            draw: a number in [0, 1) for each call that might be copied.
        """
        self._settings = settings
        self._metrics = metrics
        self._serving = serving
        self._slm = slm
        self._llm = llm
        self._gate = gate
        self._spool = spool
        self._budget = budget
        self._draw = draw
        self._waiting: deque[_Copied] = deque()
        self._waiting_bytes = 0
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._audits_resume_at = 0.0
        self._log_now = OncePerMinute()

    def consider(self, call: CallLog) -> None:
        """See whether a call is to be copied, once its client has the whole answer. Returns at once."""
        if call.status != 200 or call.ended != "finished" or call.log not in _WITH_BODIES or call.decision is None:
            return
        if call.served_by == "slm":
            promotion = call.decision.promotion
            if call.reason != Reason.MATCHED or promotion is None:  # what an operator forced says nothing of the rest
                return
            kind, share = Kind.AUDIT, self._audited(promotion)
        else:
            current = self._serving.promotions.get(call.cluster_id or "")
            if call.reason not in _REHEARSED or current is None:
                return
            if current.in_doubt:
                share = self._audited(current)
            elif current.stage in _STAGES:
                share = self._settings.shadow_share
            else:
                return
            promotion, kind = None, Kind.SHADOW
        if self._draw() < share:
            self._take(
                _Copied(
                    kind, call.call_id, call.endpoint, call.method, call.target, call.headers, call.request_body,
                    call.log, promotion,
                )
            )  # fmt: skip

    def _audited(self, promotion: Promotion) -> float:
        """The share of a promotion's calls that both answer."""
        return self._settings.audit_share if promotion.audit_share is None else promotion.audit_share

    def _take(self, copied: _Copied) -> None:
        if self._closed:
            self._leave(copied, Left.SHUTTING_DOWN)
        elif len(self._running) < self._settings.copies_at_once:
            self._start(copied)
        elif (
            len(self._waiting) < WAITING_FOR_EACH * self._settings.copies_at_once
            and self._waiting_bytes + len(copied.body) <= MAX_WAITING_BYTES
        ):
            self._waiting.append(copied)
            self._waiting_bytes += len(copied.body)
        else:
            self._leave(copied, Left.QUEUE_FULL)

    def _start(self, copied: _Copied) -> None:
        task = asyncio.get_running_loop().create_task(self._run(copied), name=f"{copied.kind}-copy")
        self._running.add(task)
        task.add_done_callback(self._go_on)

    def _go_on(self, done: asyncio.Task[None]) -> None:
        self._running.discard(done)
        if self._waiting and not self._closed:
            copied = self._waiting.popleft()
            self._waiting_bytes -= len(copied.body)
            self._start(copied)

    async def close(self) -> None:
        """Make no more copies; those in flight get a moment."""
        self._closed = True
        while self._waiting:
            self._leave(self._waiting.popleft(), Left.SHUTTING_DOWN)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, copied: _Copied) -> None:
        try:
            if not await self._budget.is_left():
                self._leave(copied, Left.OVER_BUDGET)
                return
            record = await (self._shadow(copied) if copied.kind is Kind.SHADOW else self._audit(copied))
            if record is not None:
                await self._keep(copied, record)
        except asyncio.CancelledError:
            self._leave(copied, Left.SHUTTING_DOWN)
            raise
        except Exception:  # a copy is nobody's answer: it may fail in any way, and says so
            self._leave(copied, Left.FAILED)
            if self._log_now("failed"):
                log.exception("copy.failed", call=format_call_id(copied.call_id), kind=copied.kind.value)

    async def _shadow(self, copied: _Copied) -> CopyRecord | None:
        """Have the SLM answer; None where it wouldn't have been asked in production either."""
        body, features = await read_request(copied.endpoint, copied.body)
        if features is None:
            return None
        router = self._serving.router
        decision = router.rehearse(features)
        if decision.payload_text is not None:
            decision = await asyncio.to_thread(router.settle, decision)
        promotion = decision.promotion
        if promotion is None:
            self._metrics.count_copy(copied.kind, decision.reason)
            return None
        loop = asyncio.get_running_loop()
        at_ns, begun = time.time_ns(), time.perf_counter()
        deadline = loop.time() + self._settings.slm_timeout_seconds
        ended = await self._slm.attempt(copied.endpoint, body, features, decision, deadline)
        took_ms = (time.perf_counter() - begun) * 1000
        if isinstance(ended, Declined):
            answer, attempt = ended.attempt.answer, ended.attempt
            return self._record(
                copied, promotion, attempt.outcome, attempt.status, at_ns, took_ms, answer, "application/json",
                confidence=_confidence(answer),
            )  # fmt: skip
        whole = ended.body if isinstance(ended.body, bytes) else b"".join([piece async for piece in ended.body])
        content_type = ended.content_type.decode("latin-1")
        return self._record(
            copied, promotion, Outcome.ANSWERED, ended.status, at_ns, took_ms, whole, content_type,
            confidence=ended.confidence,
        )  # fmt: skip

    async def _audit(self, copied: _Copied) -> CopyRecord | None:
        """Have the LLM answer; None while it asks for patience."""
        promotion = copied.promotion
        assert promotion is not None
        loop = asyncio.get_running_loop()
        if loop.time() < self._audits_resume_at:
            self._leave(copied, Left.PAUSED)
            return None
        headers = for_upstream(copied.headers, self._llm.authorization, self._gate.secret)
        # Nobody but us will read it: in no encoding that we can't undo.
        headers = [header for header in headers if header[0] != b"accept-encoding"]
        at_ns, begun = time.time_ns(), time.perf_counter()
        deadline = loop.time() + self._settings.total_timeout_seconds
        outcome, status, data, content_type, encoding = Outcome.LLM_ERROR, None, b"", "", ""
        try:
            answer = await self._llm.ask(copied.method, copied.target[3:], headers, copied.body, deadline)
            try:
                status = answer.status
                data = await answer.read()
            finally:
                answer.close()
            content_type = find(answer.headers, b"content-type").decode("latin-1").lower()
            encoding = find(answer.headers, b"content-encoding").decode("latin-1")
            if status == 429:
                self._audits_resume_at = loop.time() + _pause_seconds(find(answer.headers, b"retry-after"))
            if status == 200 and (answer.is_framed or encoding or _is_whole(data, content_type)):
                outcome = Outcome.ANSWERED
        except UpstreamTimeout:
            outcome = Outcome.LLM_TIMEOUT
        except UpstreamError:
            pass
        return self._record(
            copied, promotion, outcome, status, at_ns, (time.perf_counter() - begun) * 1000, data, content_type,
            content_encoding=encoding, request_body=copied.body,
        )  # fmt: skip

    def _record(
        self,
        copied: _Copied,
        promotion: Promotion,
        outcome: str,
        status: int | None,
        at_ns: int,
        duration_ms: float,
        answer: bytes,
        content_type: str,
        *,
        confidence: float | None = None,
        content_encoding: str = "",
        request_body: bytes = b"",
    ) -> CopyRecord:
        return CopyRecord(
            copy_id=new_call_id(),
            kind=copied.kind.value,
            call_id=copied.call_id,
            at_ns=at_ns,
            endpoint=copied.endpoint.value,
            cluster_id=promotion.cluster_id,
            promotion_id=promotion.version,
            slm=promotion.slm,
            model=promotion.model,
            outcome=str(outcome),
            status=status,
            duration_ms=duration_ms,
            confidence=confidence,
            answer=answer,
            content_type=content_type,
            content_encoding=content_encoding,
            request_body=request_body,
            log=copied.log,
        )

    async def _keep(self, copied: _Copied, record: CopyRecord) -> None:
        """Into the spool; from there it survives us."""
        try:
            if len(record.answer) + len(record.request_body) > APPEND_IN_THREAD_BYTES:
                await asyncio.to_thread(self._spool.append, record)
            else:
                self._spool.append(record)
        except SpoolFull as error:
            self._leave(copied, Left.NOT_LOGGED)
            if self._log_now("lost"):
                log.error("copy.not_logged", call=format_call_id(copied.call_id), error=str(error))
            return
        self._metrics.count_copy(copied.kind, record.outcome)

    def _leave(self, copied: _Copied, why: Left) -> None:
        self._metrics.count_copy(copied.kind, why)


def _confidence(answer: bytes) -> float | None:
    """Of an answer that would not have been served."""
    try:
        completion = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    return confidence_of(completion) if isinstance(completion, dict) else None


def _is_whole(data: bytes, content_type: str) -> bool:
    """Whether a body that ended with its connection is whole: of a stream, the final event says so."""
    return not content_type.startswith("text/event-stream") or bool(FinalEvent().split(data)[1])


def _pause_seconds(retry_after: bytes) -> float:
    """What `Retry-After` asks for, in seconds or as a date; a minute where it says nothing."""
    text = retry_after.decode("latin-1").strip()
    try:
        seconds = float(text) if text.isdecimal() else _seconds_until(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        seconds = PAUSE_SECONDS
    return min(max(seconds, 1.0), MAX_PAUSE_SECONDS)


def _seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()

"""A logged call, as the proxy hands it to the spool, and the facts that are read from it when it is shipped."""

from __future__ import annotations

import msgspec


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One try at one upstream.

    Attributes:
        upstream: `llm`, or the name of an SLM server in `UNDERSTUDY_SLM_URL`.
        model: the model asked for there; None when the client's own was passed on unread.
        outcome: `served`, or the reason why the next upstream was tried (a value of `router.decision.Reason`).
        status: HTTP status, or None when none arrived.
        duration_ms: from dispatch to outcome.
        answer: the body that was not served (a wasted SLM answer), else empty.
    """

    upstream: str
    model: str | None
    outcome: str
    status: int | None
    duration_ms: float
    answer: bytes = b""


class CallRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One answered (or failed, or abandoned) call: everything that can't be found out again later.

    Encoded as a msgpack array: new fields go to the end, with a default, so that older segments stay readable.

    Attributes:
        call_id: 16 bytes, UUIDv7.
        arrived_at_ns: wall clock, nanoseconds since the epoch, UTC.
        endpoint: a value of `proxy.wire.Endpoint` (bounded: it is a metric label).
        origin: keyed hash of the client's credential, 16 bytes; empty when it sent none.
        first_token_ms: arrival → first byte of the answer's body, None when none was sent.
        ended: `finished`, `client_left`, `upstream_cut` or `refused`; `complete` is true for the first only.
        response_body: bytes as the client received them, SSE included; None-length when there were none.
        log: `full`, `redacted` or `metadata`: how much of the bodies may be kept.
    """

    call_id: bytes
    arrived_at_ns: int
    method: str
    path: str
    endpoint: str
    status: int
    served_by: str
    upstream: str
    reason: str
    duration_ms: float
    first_token_ms: float | None
    ended: str
    request_body: bytes
    response_body: bytes
    request_content_type: str = ""
    response_content_type: str = ""
    response_content_encoding: str = ""
    model_resolved: str | None = None
    cluster_id: str | None = None
    snapshot_id: str | None = None
    origin: bytes = b""
    agent: str | None = None
    session: str | None = None
    call_site: str | None = None
    upstream_request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    log: str = "full"
    source: str | None = None  # `import:<format>` for calls that came from a file
    traceparent: str | None = None  # the client's, for traces alone: no column holds it

    @property
    def complete(self) -> bool:
        """Whether the client has the whole answer."""
        return self.ended == "finished"


class CopyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A second answer to a call, that no client saw: an SLM's shadow of the LLM's, or the LLM's audit of an SLM's.

    It shares the spool's frames with `CallRecord`: encoded as a msgpack map, where that is an array.

    Attributes:
        copy_id: 16 bytes, UUIDv7.
        kind: `shadow` or `audit`.
        call_id: of the call that it repeats; its record is in the same spool, before this one.
        at_ns: when it was sent; wall clock, nanoseconds since the epoch, UTC.
        endpoint: the call's.
        promotion_id, slm, model: of the promotion in force.
        outcome: `answered`; else why an SLM's answer would not have been served (a value of `router.decision.Reason`),
            `llm_error` or `llm_timeout`.
        status: HTTP status, None when none arrived.
        confidence: mean token probability of an SLM's answer, where it gave one.
        answer: body as it came, also where it would not have been served.
        request_body: of the call, with an audit: its tokens are counted where the LLM doesn't report them.
        log: `full` or `redacted`: how much of the answer may be kept.
    """

    copy_id: bytes
    kind: str
    call_id: bytes
    at_ns: int
    endpoint: str
    cluster_id: str
    promotion_id: int
    slm: str
    model: str
    outcome: str
    status: int | None
    duration_ms: float
    confidence: float | None = None
    answer: bytes = b""
    content_type: str = "application/json"
    content_encoding: str = ""
    request_body: bytes = b""
    log: str = "full"


class CopyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is read from a copy's answer when it is shipped.

    Attributes:
        answer: as one JSON object in the form of the call's endpoint, also where it came as a stream; None where it
            can't be read.
        cost_usd: None (never 0) where the tokens or the price are unknown.
    """

    answer: bytes | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


class CallFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is read from a record's bodies, off the hot path, when it is shipped.

    Token counts are None where nothing is known; `tokens_estimated` marks counts made with a tokeniser because the
    upstream reported none. Costs are None (never 0) where the model has no known price.
    """

    model_requested: str | None = None
    model_reported: str | None = None
    stream: bool = False
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    tokens_estimated: bool = False
    finish_reason: str | None = None
    tool_calls: tuple[str, ...] = ()  # names, in order
    error_code: str | None = None
    cost_usd: float | None = None
    counterfactual_usd: float | None = None  # what the requested model would have cost, for calls an SLM served
    wasted_usd: float = 0.0  # SLM answers that were not served

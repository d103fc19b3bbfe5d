"""Calls as OpenTelemetry spans, in the form of its GenAI conventions. Optional, made by the shipper from records.

Nothing of it is on a call's path: a span is made when the call is in the database, with the times that its record has.
Spans wait in a bounded queue, and those that find it full are dropped: the log has the call, the trace is a courtesy.

A client's `traceparent` becomes the parent, and its decision not to sample is kept. A call without one begins a trace
whose id is the call's own. No span holds a part of a prompt or an answer.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy.wire.endpoint import Endpoint
from storage.ids import format_call_id
from storage.records import CallFacts, CallRecord

EXPORT_SECONDS = 5.0
#: Endpoints that a model answers, by what the conventions call them.
_OPERATIONS = {
    Endpoint.CHAT.value: "chat",
    Endpoint.RESPONSES.value: "chat",
    Endpoint.COMPLETIONS.value: "text_completion",
    Endpoint.EMBEDDINGS.value: "embeddings",
}

Value = str | int | float | bool | Sequence[str]


class CallTraces(Protocol):
    """Makes calls visible elsewhere."""

    def show(self, calls: Sequence[tuple[CallRecord, CallFacts]]) -> None:
        """Export them; never waits, never raises."""
        ...

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        ...


class OtlpTraces:
    """Exports over OTLP/HTTP. Further headers (a collector's key) come from `OTEL_EXPORTER_OTLP_HEADERS`."""

    def __init__(self, endpoint: str) -> None:
        """Take the collector's base URL, as `http://collector:4318`."""
        self._ids = _CallIds()
        self._provider = TracerProvider(
            id_generator=self._ids, resource=Resource.create({"service.name": "understudy"}), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("understudy")
        self._parents = TraceContextTextMapPropagator()

    def show(self, calls: Sequence[tuple[CallRecord, CallFacts]]) -> None:
        """See `CallTraces`. Imported calls are history: they are left out."""
        for record, facts in calls:
            if record.source is None and record.endpoint in _OPERATIONS:
                self._show(record, facts)

    def _show(self, record: CallRecord, facts: CallFacts) -> None:
        operation = _OPERATIONS[record.endpoint]
        carrier = {"traceparent": record.traceparent} if record.traceparent else {}
        self._ids.call_id = record.call_id
        span = self._tracer.start_span(
            f"{operation} {facts.model_requested}" if facts.model_requested else operation,
            context=self._parents.extract(carrier, Context()),
            kind=SpanKind.CLIENT,
            attributes=attributes(record, facts),
            start_time=record.arrived_at_ns,
        )
        if (error := _error(record, facts)) is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(record.arrived_at_ns + int(record.duration_ms * 1e6))

    def close(self) -> None:
        """See `CallTraces`."""
        self._provider.shutdown()


def attributes(record: CallRecord, facts: CallFacts) -> dict[str, Value]:
    """What a span says of a call, by GenAI's names where they have one, else `understudy.*`; nothing of the unknown."""
    known: dict[str, Value | None] = {
        "gen_ai.operation.name": _OPERATIONS.get(record.endpoint),
        "gen_ai.provider.name": "openai",  # the API that is spoken; who is behind it, nobody says
        "gen_ai.request.model": facts.model_requested,
        "gen_ai.response.model": facts.model_reported or record.model_resolved,
        "gen_ai.response.finish_reasons": [facts.finish_reason] if facts.finish_reason else None,
        "gen_ai.usage.input_tokens": facts.input_tokens,
        "gen_ai.usage.output_tokens": facts.output_tokens,
        "gen_ai.conversation.id": record.session,
        "gen_ai.agent.name": record.agent,
        "http.response.status_code": record.status or None,
        "error.type": _error(record, facts),
        "understudy.call_id": format_call_id(record.call_id),
        "understudy.served_by": record.served_by,
        "understudy.reason": record.reason or None,
        "understudy.cluster": record.cluster_id,
        "understudy.ended": record.ended,
        "understudy.first_token_ms": record.first_token_ms,
        "understudy.cost_usd": facts.cost_usd,
        "understudy.attempts": [f"{each.upstream}: {each.outcome}" for each in record.attempts] or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _error(record: CallRecord, facts: CallFacts) -> str | None:
    """What went wrong, in a word; None when nothing did."""
    if record.status >= 400:
        return facts.error_code or str(record.status)
    return None if record.complete else record.ended


class _CallIds(IdGenerator):
    """A trace that begins here has the id of its call."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.call_id = b""

    def generate_trace_id(self) -> int:
        """The call's own."""
        return int.from_bytes(self.call_id) or self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        """Any."""
        return self._random.generate_span_id()

"""Spans of calls, as a real receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.replay.upstream import ReplayUpstream
from proxy.traces import OtlpTraces
from storage.ids import format_call_id
from storage.records import Attempt, CallFacts
from tests.conftest import Serve, wait_for
from tests.storage.conftest import make_record

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FACTS = CallFacts(
    model_requested="gpt-4o", model_reported="gpt-4o-2024-08-06", input_tokens=12, output_tokens=3,
    finish_reason="stop", cost_usd=0.25,
)  # fmt: skip


class Receiver:
    """An OTLP/HTTP collector that keeps its spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def get(self, *records: Any, facts: CallFacts = FACTS) -> list[Any]:
        """What comes of some records."""
        traces = OtlpTraces(self.url)
        traces.show([(record, facts) for record in records])
        traces.close()
        return self.spans


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


def said(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_span_says_of_a_call_what_the_conventions_ask_for_and_how_it_was_decided(receiver: Receiver) -> None:
    attempt = Attempt("main", "triage", "low_confidence", 200, 30.0, b"secret answer")
    record = make_record(
        request=b'{"messages":[{"content":"secret prompt"}]}', reason="low_confidence", cluster_id="c-1",
        session="s-1", attempts=(attempt,),
    )  # fmt: skip
    [span] = receiver.get(record)
    told = said(span)
    assert span.name == "chat gpt-4o"
    assert (told["gen_ai.operation.name"], told["gen_ai.request.model"]) == ("chat", "gpt-4o")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (12, 3)
    assert (told["gen_ai.response.model"], told["gen_ai.conversation.id"]) == ("gpt-4o-2024-08-06", "s-1")
    assert (told["understudy.served_by"], told["understudy.reason"]) == ("llm", "low_confidence")
    assert (told["understudy.call_id"], told["understudy.cluster"]) == (format_call_id(record.call_id), "c-1")
    assert "error.type" not in told
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        record.arrived_at_ns, record.arrived_at_ns + 12_500_000,
    )  # fmt: skip
    assert b"secret" not in span.SerializeToString()


def test_a_clients_trace_goes_on_and_a_call_without_one_begins_its_own(receiver: Receiver) -> None:
    inside, alone = make_record(traceparent=PARENT), make_record()
    first, second = receiver.get(inside, alone)
    assert first.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert first.parent_span_id.hex() == "b7ad6b7169203331"
    assert (second.trace_id, second.parent_span_id) == (alone.call_id, b"")


@pytest.mark.parametrize("parent", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "é", ""])
def test_a_parent_that_is_none_is_passed_over(receiver: Receiver, parent: str) -> None:
    record = make_record(traceparent=parent)
    [span] = receiver.get(record)
    assert span.trace_id == record.call_id


def test_what_the_client_does_not_sample_is_not_exported_nor_what_was_imported_or_is_no_models(
    receiver: Receiver,
) -> None:
    assert not receiver.get(
        make_record(traceparent=f"{PARENT[:-1]}0"), make_record(source="import:jsonl"), make_record(endpoint="files")
    )


@pytest.mark.parametrize(
    ("changes", "facts", "error"),
    [
        ({"status": 429}, {"error_code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"status": 502}, {}, "502"),
        ({"ended": "client_left"}, {}, "client_left"),
    ],
)
def test_a_failed_call_says_so(receiver: Receiver, changes: Any, facts: Any, error: str) -> None:
    [span] = receiver.get(make_record(**changes), facts=msgspec.structs.replace(FACTS, **facts))
    assert said(span)["error.type"] == error
    assert span.status.code == 2


def test_a_dead_collector_holds_nothing_up() -> None:
    traces = OtlpTraces("http://127.0.0.1:9")
    began = time.monotonic()
    traces.show([(make_record(), FACTS)] * 3000)
    assert time.monotonic() - began < 5
    traces.close()
    assert time.monotonic() - began < 20


def test_a_proxy_exports_its_calls_with_the_clients_trace_and_their_own_id(
    receiver: Receiver, serve: Serve, upstream: ReplayUpstream
) -> None:
    proxy = serve(upstream_url=upstream.base_url, otel_endpoint=receiver.url)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=body, headers={"traceparent": PARENT})
    wait_for(lambda: len(receiver.spans) == 1)
    [span] = receiver.spans
    assert span.trace_id.hex() in PARENT
    assert said(span)["understudy.call_id"] == answer.headers["x-understudy-call-id"]

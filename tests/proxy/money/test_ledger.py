"""What is read from a call's bodies, and what becomes of it in the metrics."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import Metrics
from proxy.money.key_names import NO_KEY
from proxy.money.ledger import Ledger, add_up, add_up_copies
from proxy.money.pricing import LlmPrices, SlmPrices
from proxy.money.savings import Parts
from proxy.money.tokenisation import UNKNOWN, Tokenisation
from proxy.wire.usage import Usage
from storage.records import Attempt, CallFacts, CallRecord, CopyFacts, CopyRecord

REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How many legs does a spider have?"}]}
COMPLETION = {
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Eight."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 400}, "completion_tokens_details": {"reasoning_tokens": 30},
    },
}  # fmt: skip
STREAM = (
    b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"Eight"}}]}\n\n'
    b'data: {"model":"gpt-4o","choices":[{"index":0,"delta":{"content":" legs."}}]}\n\n'
)
COST = (600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6
AVOIDED = (12 * 2.5 + 2 * 10) / 1e6
SLM_COST = (1000 + 2 * 100) / 1e6
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRIAGE = b"t" * 16


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger(LlmPrices("http://127.0.0.1:9/v1"), SlmPrices(1e-6, 2e-6))


def record(request: Any = REQUEST, answer: Any = COMPLETION, **values: Any) -> CallRecord:
    given = {
        "call_id": b"0" * 16, "arrived_at_ns": 1_750_000_000 * 10**9, "method": "POST",
        "path": "/v1/chat/completions", "endpoint": "chat", "status": 200, "served_by": "llm", "upstream": "llm",
        "reason": "no_snapshot", "duration_ms": 1.0, "first_token_ms": 1.0, "ended": "finished",
        "request_body": request if isinstance(request, bytes) else json.dumps(request).encode(),
        "response_body": answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        "response_content_type": "application/json",
    }  # fmt: skip
    return CallRecord(**(given | values))


def key_of(origin: bytes) -> str:
    return {TRIAGE: "triage"}.get(origin, NO_KEY)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    raise AssertionError(f"there is no {name} {labels}")


def test_a_completion_tells_model_tokens_ending_and_cost(ledger: Ledger) -> None:
    facts = ledger.read_facts(record())
    assert (facts.model_requested, facts.model_reported) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (facts.input_tokens, facts.cached_input_tokens) == (1000, 400)
    assert (facts.output_tokens, facts.reasoning_tokens, facts.tokens_estimated) == (100, 30, False)
    assert facts.finish_reason == "stop"
    assert facts.cost_usd == pytest.approx(COST)


def test_a_compressed_answer_is_read(ledger: Ledger) -> None:
    body = gzip.compress(json.dumps(COMPLETION).encode())
    assert ledger.read_facts(record(answer=body, response_content_encoding="gzip")).output_tokens == 100


def test_a_stream_without_usage_is_counted(ledger: Ledger) -> None:
    facts = ledger.read_facts(record(REQUEST | {"stream": True}, STREAM, response_content_type="text/event-stream"))
    assert (facts.stream, facts.tokens_estimated, facts.output_tokens) == (True, True, 3)
    assert facts.cost_usd is not None


def test_an_slms_call_has_its_own_cost_and_the_one_it_avoided(ledger: Ledger) -> None:
    """The LLM would have read 12 tokens (8 of text, 4 around it) and written 2, whatever the SLM counted."""
    facts = ledger.read_facts(record(served_by="slm"))
    assert facts.cost_usd == pytest.approx(SLM_COST)
    assert facts.counterfactual_usd == pytest.approx(AVOIDED)


def test_what_was_avoided_is_counted_as_the_llm_counts_in_this_task() -> None:
    def seen(cluster_id: str | None) -> Tokenisation:
        return Tokenisation(2.0, 3.0, 0.5, 20) if cluster_id == "c-1" else UNKNOWN

    ledger = Ledger(LlmPrices("http://127.0.0.1:9/v1"), SlmPrices(1e-6, 2e-6), tokenisation=seen)
    facts = ledger.read_facts(record(served_by="slm", cluster_id="c-1"))
    assert facts.counterfactual_usd == pytest.approx((12 * 2.5 + 12 * 1.25 + 6 * 10) / 1e6)
    assert (facts.input_tokens, facts.output_tokens) == (1000, 100)  # what the SLM said of itself stays


def copy(kind: str, answer: Any = COMPLETION, **values: Any) -> CopyRecord:
    given = {
        "copy_id": b"c" * 16, "kind": kind, "call_id": b"0" * 16, "at_ns": 1_750_000_000 * 10**9, "endpoint": "chat",
        "cluster_id": "c-1", "promotion_id": 1, "slm": "gpu", "model": "m", "outcome": "answered", "status": 200,
        "duration_ms": 1.0, "answer": answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        "request_body": json.dumps(REQUEST).encode() if kind == "audit" else b"",
    }  # fmt: skip
    return CopyRecord(**(given | values))


def test_a_copy_costs_what_who_answered_asks_for(ledger: Ledger) -> None:
    shadow, audit = ledger.read_copy(copy("shadow")), ledger.read_copy(copy("audit"))
    assert shadow.cost_usd == pytest.approx(SLM_COST)
    assert audit.cost_usd == pytest.approx(COST)
    assert (audit.input_tokens, audit.output_tokens) == (1000, 100)
    metrics = Metrics()
    parts = add_up_copies(metrics, [(copy("shadow"), shadow), (copy("audit"), audit)])
    assert parts == Parts(shadow_usd=shadow.cost_usd or 0, audit_usd=audit.cost_usd or 0)
    assert value(metrics, "understudy_cost_usd_total", served_by="audit") == pytest.approx(COST)
    assert value(metrics, "understudy_cost_usd_total", served_by="shadow") == pytest.approx(SLM_COST)
    assert value(metrics, "understudy_cost_usd_total", served_by="llm") == 0  # no client's call cost that


def test_a_streamed_audit_becomes_one_answer_and_is_counted(ledger: Ledger) -> None:
    facts = ledger.read_copy(copy("audit", STREAM, content_type="text/event-stream"))
    assert json.loads(facts.answer or b"")["choices"][0]["message"]["content"] == "Eight legs."
    assert (facts.input_tokens, facts.output_tokens) == (12, 3)
    assert facts.cost_usd is not None


@pytest.mark.parametrize("answer", [b"<html>", b"", b'{"error": {"message": "overloaded"}}', b"data: {"])
def test_what_is_no_answer_is_kept_as_none_and_is_not_free(ledger: Ledger, answer: bytes) -> None:
    assert ledger.read_copy(copy("audit", answer)) == CopyFacts()
    assert ledger.read_copy(copy("shadow", answer, outcome="slm_error")) == CopyFacts()


def test_an_unpriced_audit_has_no_cost(ledger: Ledger) -> None:
    house = {"model": "house-model"}
    asked = json.dumps(REQUEST | house).encode()
    assert ledger.read_copy(copy("audit", COMPLETION | house, request_body=asked)).cost_usd is None


def test_log_probabilities_are_not_kept(ledger: Ledger) -> None:
    choice = COMPLETION["choices"][0] | {"logprobs": {"content": [{"token": "x", "logprob": -0.1}]}}  # type: ignore[index]
    facts = ledger.read_copy(copy("shadow", COMPLETION | {"choices": [choice]}, outcome="low_confidence"))
    assert b"logprob" not in (facts.answer or b"logprob")


@pytest.mark.parametrize(
    ("request_body", "answer"),
    [
        (b"", b""),
        (b'{"messages": [', b"<html>"),
        (b"[]", b"[]"),
        (b'{"model": 7, "messages": 7}', b'{"usage": 7, "choices": 7, "error": 7, "model": 7, "output": 7}'),
        (b"\xff\xfe", b"\xff\xfe"),
        (b'{"messages": [{"content": "x"}]}', b'{"choices": [{"message": {"tool_calls": [7, {"function": 7}]}}]}'),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_no_body_is_too_strange(ledger: Ledger, request_body: bytes, answer: bytes, content_type: str) -> None:
    assert ledger.read_facts(record(request_body, answer, response_content_type=content_type)).cost_usd is None


def test_a_file_upload_is_not_read(ledger: Ledger) -> None:
    assert ledger.read_facts(record(b"\x00" * 100, {"id": "file-1"}, endpoint="files")) == CallFacts()


def test_savings_are_net_of_the_slms_own_and_wasted_cost(ledger: Ledger) -> None:
    metrics = Metrics()
    wasted = Attempt("slm", "tiny", "output_invalid", 200, 5.0, json.dumps(COMPLETION).encode())
    calls = [record(), record(served_by="slm"), record(attempts=(wasted,))]
    parts = add_up(metrics, [(call, ledger.read_facts(call)) for call in calls], key_of)
    assert value(metrics, "understudy_counterfactual_cost_usd_total") == pytest.approx(AVOIDED)
    assert value(metrics, "understudy_cost_usd_total", served_by="slm") == pytest.approx(2 * SLM_COST)
    assert parts.net_usd == pytest.approx(AVOIDED - 2 * SLM_COST)


def test_an_agents_calls_are_told_apart_by_the_key_they_came_with(ledger: Ledger) -> None:
    metrics = Metrics()
    wasted = Attempt("slm", "tiny", "output_invalid", 200, 5.0, json.dumps(COMPLETION).encode())
    calls = [record(), record(served_by="slm", origin=TRIAGE), record(attempts=(wasted,), origin=TRIAGE)]
    add_up(metrics, [(call, ledger.read_facts(call)) for call in calls], key_of)
    assert value(metrics, "understudy_key_calls_total", key="none", served_by="llm") == 1
    assert value(metrics, "understudy_key_calls_total", key="triage", served_by="slm") == 1
    assert value(metrics, "understudy_key_cost_usd_total", key="triage", served_by="llm") == pytest.approx(COST)
    assert value(metrics, "understudy_key_cost_usd_total", key="triage", served_by="slm") == pytest.approx(2 * SLM_COST)
    assert value(metrics, "understudy_key_counterfactual_cost_usd_total", key="triage") == pytest.approx(AVOIDED)
    assert value(metrics, "understudy_key_counterfactual_cost_usd_total", key="none") == 0


@pytest.mark.parametrize("served_by", ["llm", "slm"])
def test_a_call_without_a_known_price_is_counted_and_never_free(ledger: Ledger, served_by: str) -> None:
    metrics = Metrics()
    house = {"model": "house-model"}
    call = record(REQUEST | house, COMPLETION | house, served_by=served_by)
    add_up(metrics, [(call, ledger.read_facts(call))], key_of)
    assert value(metrics, "understudy_unpriced_calls_total") == 1


def test_what_an_unpriced_slm_call_avoided_is_not_claimed(ledger: Ledger) -> None:
    """Its own cost is certain, what the LLM would have cost is not."""
    house = {"model": "house-model"}
    call = record(REQUEST | house, COMPLETION | house, served_by="slm")
    assert add_up(Metrics(), [(call, ledger.read_facts(call))], key_of).net_usd == pytest.approx(-SLM_COST)


def test_imported_calls_are_history_not_traffic(ledger: Ledger) -> None:
    call = record(source="import:jsonl")
    assert add_up(Metrics(), [(call, ledger.read_facts(call))], key_of) == Parts()


def test_prices_know_cached_input_time_and_their_limits() -> None:
    openai, gateway = LlmPrices("https://api.openai.com/v1"), LlmPrices("http://127.0.0.1:9/v1")
    million = Usage(input_tokens=1_000_000, cached_input_tokens=None, output_tokens=0)
    assert openai.price("gpt-4o", million, NOW) == gateway.price("openai/gpt-4o", million, NOW) == pytest.approx(2.5)
    assert openai.price("o3", million, datetime(2025, 6, 1, tzinfo=UTC)) == pytest.approx(10)
    assert openai.price("o3", million, datetime(2025, 7, 1, tzinfo=UTC)) == pytest.approx(2)
    for unknown in ("gpt-99-ultra", "", None, "ft:gpt-4o:us::1"):
        assert openai.price(unknown, million, NOW) is None
        assert gateway.price(unknown, million, NOW) is None

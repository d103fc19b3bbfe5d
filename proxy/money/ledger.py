"""What a record says, read off the hot path: model, tokens, money. For the log's columns and for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from proxy.metrics import Metrics
from proxy.money.pricing import LlmPrices, SlmPrices
from proxy.money.savings import Parts
from proxy.money.tokenisation import UNKNOWN, Tokenisation
from proxy.money.tokens import TokenCounter, first
from proxy.wire.answer import read_answer
from proxy.wire.endpoint import Endpoint
from proxy.wire.usage import Usage, read_usage
from storage.ids import format_call_id
from storage.records import Attempt, CallFacts, CallRecord, CopyFacts, CopyRecord
from storage.repositories.copies import ANSWERED, SHADOW

log = structlog.get_logger()

_COUNTED = frozenset({Endpoint.CHAT.value, Endpoint.RESPONSES.value})
_PRICED = frozenset(
    {Endpoint.CHAT.value, Endpoint.RESPONSES.value, Endpoint.COMPLETIONS.value, Endpoint.EMBEDDINGS.value}
)


class Ledger:
    """Reads records, at the prices of its upstreams."""

    def __init__(
        self,
        llm: LlmPrices,
        slm: SlmPrices,
        counter: TokenCounter | None = None,
        tokenisation: Callable[[str | None], Tokenisation] = lambda cluster_id: UNKNOWN,
    ) -> None:
        """
        Args:
            tokenisation: how the LLM counts the tokens of a cluster's calls.
        """
        self._llm = llm
        self._slm = slm
        self._counter = counter or TokenCounter()
        self._tokenisation = tokenisation

    def read_facts(self, record: CallRecord) -> CallFacts:
        """Read a record's bodies. Never raises: a call that can't be read is shipped without facts."""
        try:
            return self._read_facts(record)
        except Exception:
            log.exception("facts.not_read", call=format_call_id(record.call_id))
            return CallFacts()

    def _read_facts(self, record: CallRecord) -> CallFacts:
        request = _object(record.request_body) if record.endpoint in _PRICED else {}
        answer = self._answer(record)
        usage = read_usage(answer)
        estimated = False
        counted = None
        if record.status == 200 and record.endpoint in _COUNTED and (usage is None or record.served_by == "slm"):
            counted = self._counter.count(record.endpoint, request, answer)
        if usage is None and counted is not None:
            usage, estimated = counted, True
        requested = _text(request.get("model"))
        reported = _text(answer.get("model"))
        at = datetime.fromtimestamp(record.arrived_at_ns / 1e9, UTC)
        cost = counterfactual = None
        if record.served_by == "slm":
            cost = None if usage is None else self._slm.price(usage)
            if counted is not None:
                corrected = self._tokenisation(record.cluster_id).correct(counted)
                counterfactual = self._llm.price(requested, corrected, at)
        elif usage is not None:
            cost = self._llm_cost(requested, reported, usage, at)
        wasted = sum(self._slm.price(usage) for attempt in record.attempts if (usage := _wasted(attempt)) is not None)
        choice = first(answer.get("choices"))
        error = answer.get("error")
        return CallFacts(
            model_requested=requested,
            model_reported=reported,
            stream=request.get("stream") is True,
            input_tokens=usage.input_tokens if usage else None,
            cached_input_tokens=usage.cached_input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            reasoning_tokens=usage.reasoning_tokens if usage else None,
            tokens_estimated=estimated,
            finish_reason=_text(choice.get("finish_reason")) or _text(answer.get("status")),
            tool_calls=_tool_calls(choice.get("message"), answer.get("output")),
            error_code=_text(error.get("code") or error.get("type")) if isinstance(error, dict) else None,
            cost_usd=cost,
            counterfactual_usd=counterfactual,
            wasted_usd=wasted,
        )

    def read_copy(self, record: CopyRecord) -> CopyFacts:
        """Read a copy's answer."""
        answer = read_answer(record.endpoint, record.answer, record.content_type, record.content_encoding)
        if answer is None or "error" in answer:
            return CopyFacts()
        usage = read_usage(answer)
        if record.kind == SHADOW:
            cost = None if usage is None else self._slm.price(usage)
        else:
            request = _object(record.request_body)
            if usage is None and record.outcome == ANSWERED:
                usage = self._counter.count(record.endpoint, request, answer)
            at = datetime.fromtimestamp(record.at_ns / 1e9, UTC)
            models = _text(request.get("model")), _text(answer.get("model"))
            cost = None if usage is None else self._llm_cost(*models, usage, at)
        for choice in answer.get("choices") or ():
            choice.pop("logprobs", None)  # ten times as long as the answer, and summed up in the copy's confidence
        return CopyFacts(
            answer=orjson.dumps(answer),
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cost_usd=cost,
        )

    def _llm_cost(self, requested: str | None, reported: str | None, usage: Usage, at: datetime) -> float | None:
        """By the name that the LLM gave itself, where that has a price."""
        cost = self._llm.price(reported, usage, at) if reported else None
        return self._llm.price(requested, usage, at) if cost is None else cost

    def _answer(self, record: CallRecord) -> dict[str, Any]:
        if record.endpoint not in _PRICED and record.status < 400:
            return {}
        answer = read_answer(
            record.endpoint, record.response_body, record.response_content_type, record.response_content_encoding
        )
        return answer or {}


def add_up(metrics: Metrics, calls: Sequence[tuple[CallRecord, CallFacts]], key_of: Callable[[bytes], str]) -> Parts:
    """Bring calls that are now in the database into the counters; imported ones are history, not traffic.

    Args:
        key_of: name of the key that a call came with, by its origin.

    Returns:
        What they add to the savings, part by part.
    """
    parts = Parts()
    for record, facts in calls:
        if record.source is not None:
            continue
        if facts.input_tokens is not None or facts.output_tokens is not None:
            metrics.add_tokens(
                record.served_by,
                input_tokens=facts.input_tokens or 0,
                cached_input_tokens=facts.cached_input_tokens or 0,
                output_tokens=facts.output_tokens or 0,
            )
        if facts.cost_usd is not None:
            metrics.add_cost(record.served_by, facts.cost_usd)
        if facts.wasted_usd:
            metrics.add_cost("slm", facts.wasted_usd)
            parts += Parts(wasted_usd=facts.wasted_usd)
        if record.served_by == "slm":
            if facts.counterfactual_usd is not None:
                metrics.add_counterfactual(facts.counterfactual_usd)
            parts += Parts(counterfactual_usd=facts.counterfactual_usd or 0.0, slm_usd=facts.cost_usd or 0.0)
        metrics.count_key_call(
            key_of(record.origin),
            record.served_by,
            facts.cost_usd or 0.0,
            facts.wasted_usd,
            (facts.counterfactual_usd or 0.0) if record.served_by == "slm" else 0.0,
        )
        if _is_unpriced(record, facts):
            metrics.count_unpriced_call()
    return parts


def add_up_copies(metrics: Metrics, copies: Sequence[tuple[CopyRecord, CopyFacts]]) -> Parts:
    """Bring copies that are now in the database into the cost, as served by their kind: no client's call costs that.

    Returns:
        What they add to the savings' costs.
    """
    parts = Parts()
    for record, facts in copies:
        if facts.cost_usd is None:
            continue
        metrics.add_cost(record.kind, facts.cost_usd)
        parts += Parts(shadow_usd=facts.cost_usd) if record.kind == SHADOW else Parts(audit_usd=facts.cost_usd)
    return parts


def _is_unpriced(record: CallRecord, facts: CallFacts) -> bool:
    """Whether the LLM's price of a call that has one could not be found."""
    price = facts.counterfactual_usd if record.served_by == "slm" else facts.cost_usd
    return price is None and record.status == 200 and record.endpoint in _PRICED


def _wasted(attempt: Attempt) -> Usage | None:
    """Tokens of an SLM's answer that was not served; None where there was none, or none that tells."""
    return read_usage(_object(attempt.answer)) if attempt.answer and attempt.upstream != "llm" else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _tool_calls(message: object, output: object) -> tuple[str, ...]:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    names = [call.get("function", {}).get("name") for call in calls or [] if isinstance(call, dict)]
    if isinstance(output, list):
        names += [item.get("name") for item in output if isinstance(item, dict) and item.get("type") == "function_call"]
    return tuple(name for name in names if isinstance(name, str))

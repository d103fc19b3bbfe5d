"""What a record says, read off the hot path: model, tokens, money. For the log's columns and for the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import bpe_openai
import orjson
import structlog

from proxy.metrics import Metrics
from proxy.pricing import LlmPrices, SlmPrices
from proxy.wire.answer import read_answer
from proxy.wire.endpoint import Endpoint
from proxy.wire.usage import Usage, read_usage
from router.features import FeaturesUnreadable, read_chat, read_responses
from storage.ids import format_call_id
from storage.records import Attempt, CallFacts, CallRecord

log = structlog.get_logger()

MESSAGE_OVERHEAD_TOKENS = 4  # OpenAI's count of what a message costs beside its text
MAX_COUNTED_CHARS = 400_000
_PRICED = frozenset(
    {Endpoint.CHAT.value, Endpoint.RESPONSES.value, Endpoint.COMPLETIONS.value, Endpoint.EMBEDDINGS.value}
)


class Ledger:
    """Reads records, at the prices of its upstreams."""

    def __init__(self, llm: LlmPrices, slm: SlmPrices) -> None:
        self._llm = llm
        self._slm = slm
        self._encoding = bpe_openai.get_encoding("o200k_base")

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
        if usage is None and record.status == 200 and record.endpoint in (Endpoint.CHAT, Endpoint.RESPONSES):
            usage, estimated = self._counted(record.endpoint, request, answer), True
        requested = _text(request.get("model"))
        reported = _text(answer.get("model"))
        at = datetime.fromtimestamp(record.arrived_at_ns / 1e9, UTC)
        cost = counterfactual = None
        if usage is not None:
            llm_cost = self._llm.price(requested, usage, at)
            if record.served_by == "slm":
                cost, counterfactual = self._slm.price(usage), llm_cost
            else:
                cost = self._llm.price(reported, usage, at) if reported else llm_cost
                cost = llm_cost if cost is None else cost
        wasted = sum(self._slm.price(usage) for attempt in record.attempts if (usage := _wasted(attempt)) is not None)
        choice = _first(answer.get("choices"))
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

    def _answer(self, record: CallRecord) -> dict[str, Any]:
        if record.endpoint not in _PRICED and record.status < 400:
            return {}
        answer = read_answer(
            record.endpoint, record.response_body, record.response_content_type, record.response_content_encoding
        )
        return answer or {}

    def _counted(self, endpoint: str, request: dict[str, Any], answer: dict[str, Any]) -> Usage | None:
        """Count with OpenAI's tokeniser what the upstream did not: streams without `include_usage`, cut answers."""
        try:
            features = read_chat(request) if endpoint == Endpoint.CHAT else read_responses(request)
        except FeaturesUnreadable:
            return None
        sent = sum(self._count(message.text) + MESSAGE_OVERHEAD_TOKENS for message in features.messages)
        message = _first(answer.get("choices")).get("message") or {"output": answer.get("output")}
        return Usage(
            input_tokens=sent + self._count(_dumped(request.get("tools"))),
            cached_input_tokens=None,
            cache_write_tokens=None,
            output_tokens=self._count(_spoken(message)),
            reasoning_tokens=None,
        )

    def _count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text[:MAX_COUNTED_CHARS])) if text else 0


def add_up(metrics: Metrics, calls: Sequence[tuple[CallRecord, CallFacts]]) -> float:
    """Bring calls that are now in the database into the counters; imported ones are history, not traffic.

    Returns:
        US dollars by which they change the net savings.
    """
    saved = 0.0
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
            saved -= facts.wasted_usd
        if record.served_by == "slm":
            if facts.counterfactual_usd is not None:
                metrics.add_counterfactual(facts.counterfactual_usd)
            saved += (facts.counterfactual_usd or 0.0) - (facts.cost_usd or 0.0)
        if _is_unpriced(record, facts):
            metrics.count_unpriced_call()
    return saved


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


def _first(values: object) -> dict[str, Any]:
    first = values[0] if isinstance(values, list) and values else None
    return first if isinstance(first, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _dumped(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _spoken(message: Any) -> str:
    """What the model wrote: texts and tool calls."""
    if not isinstance(message, dict):
        return ""
    text = message.get("content")
    rest = message.get("tool_calls") or message.get("function_call") or message.get("output")
    return (text if isinstance(text, str) else "") + _dumped(rest)


def _tool_calls(message: object, output: object) -> tuple[str, ...]:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    names = [call.get("function", {}).get("name") for call in calls or [] if isinstance(call, dict)]
    if isinstance(output, list):
        names += [item.get("name") for item in output if isinstance(item, dict) and item.get("type") == "function_call"]
    return tuple(name for name in names if isinstance(name, str))

"""Langfuse: observations, as its API, its table export (JSON, CSV) and its blob storage export write them.

Rows whose `type` is `GENERATION` are calls to a model. API and table export spell their fields `startTime`, `model`,
`usageDetails`; the blob storage export `start_time`, `provided_model_name`, `usage_details`, with `input` and `output`
as JSON in strings. https://langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields,
https://api.reference.langfuse.com (observations)

What is in `input` and `output` is up to the instrumentation: messages, `{"messages", "tools", …}` (Langfuse's OpenAI
wrapper), LangChain's messages, items of the responses API, or mere text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.imports.messages import as_message, as_messages, completion, failure, usage_of
from proxy.imports.past import PastCall, milliseconds, moment
from proxy.imports.rows import Malformed, Row, decoded, first, mapping, number, text

_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)
_ITEMS = frozenset({"message", "function_call", "reasoning"})


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out; observations of other types, and generations without an answer, are passed over."""
    for row in rows:
        if not text(row.get("id")) or not text(row.get("type")):
            raise Malformed('no "id" or no "type": not an observation of Langfuse')
        if row["type"] == "GENERATION" and (call := _call(row)) is not None:
            yield call


def _call(row: Row) -> PastCall | None:
    given, made = decoded(row.get("input")), decoded(row.get("output"))
    begin = moment(first(row, ("startTime", "start_time")))
    if begin is None:
        raise Malformed('no "startTime" or "start_time"')
    failed = row.get("level") == "ERROR"
    if given in (None, "") or (made in (None, "", [], {}) and not failed):
        return None
    model = text(first(row, ("model", "provided_model_name", "providedModelName")))
    parameters = mapping(first(row, ("modelParameters", "model_parameters")))
    request = {"model": model, **_numbers(parameters), **_prompt(given, made)}
    if failed and made in (None, "", [], {}):
        status, answer = 500, failure(text(first(row, ("statusMessage", "status_message"))))
    else:
        status, answer = 200, _answer(made, model, _usage(row), int(begin.timestamp()))
    end = moment(first(row, ("endTime", "end_time")))
    first_token = moment(first(row, ("completionStartTime", "completion_start_time")))
    return PastCall(
        request=request,
        answer=answer,
        status=status,
        at=begin,
        duration_ms=milliseconds(begin, end) or 0.0,
        first_token_ms=milliseconds(begin, first_token),
        identity=row["id"],
        agent=text(first(row, ("traceName", "trace_name"))),
        session=text(first(row, ("sessionId", "session_id", "traceId", "trace_id"))),
    )


def _numbers(parameters: dict[str, Any]) -> dict[str, int | float]:
    """The model's parameters that are numbers: Langfuse keeps them as strings, and defaults such as `Infinity`."""
    found = {name: number(parameters.get(name)) for name in _PARAMETERS}
    return {name: int(value) if value.is_integer() else value for name, value in found.items() if value is not None}


def _prompt(given: Any, made: Any) -> dict[str, Any]:
    """What was asked, as fields of a request."""
    if isinstance(given, dict) and "messages" in given:
        return given | {"messages": as_messages(given["messages"])}
    if isinstance(given, dict) and "input" in given:
        return given
    if _is_items(made):
        return {"input": given}
    return {"messages": as_messages(given)}


def _answer(made: Any, model: str | None, usage: dict[str, Any] | None, created: int) -> dict[str, Any]:
    if isinstance(made, dict) and ("choices" in made or made.get("object") == "response"):
        return made
    if _is_items(made):
        answer = {"object": "response", "status": "completed", "created_at": created, "model": model, "output": made}
        counts = usage and {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
        return answer | ({"usage": counts | {"total_tokens": usage["total_tokens"]}} if counts and usage else {})
    answers = made if isinstance(made, list) else [made]
    texts = [{"role": "assistant", "content": a["text"]} if _is_text(a) else as_message(a) for a in answers]
    return completion(texts, model=model, usage=usage, created=created)


def _is_items(made: Any) -> bool:
    return isinstance(made, list) and all(isinstance(item, dict) and item.get("type") in _ITEMS for item in made)


def _is_text(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("text"), str) and "role" not in answer


def _usage(row: Row) -> dict[str, Any] | None:
    """Token counts. Langfuse takes cached tokens out of `input` and reasoning out of `output`, into keys of their own
    (`input_cached_tokens`, `output_reasoning_tokens`); other senders leave them in, which `total` gives away."""
    details = mapping(first(row, ("usageDetails", "usage_details"))) or mapping(row.get("usage"))
    counts = {name: count for name, value in details.items() if (count := number(value)) is not None}
    given = counts.get("input", number(first(row, ("promptTokens", "inputUsage"))))
    made = counts.get("output", number(first(row, ("completionTokens", "outputUsage"))))
    extra_given = sum(count for name, count in counts.items() if name.startswith("input_"))
    extra_made = sum(count for name, count in counts.items() if name.startswith("output_"))
    if (given or 0) + (made or 0) != counts.get("total"):
        given = given and given + extra_given
        made = made and made + extra_made
    cached = next((counts[name] for name in counts if name.startswith("input") and "cache" in name), None)
    reasoning = next((counts[name] for name in counts if name.startswith("output") and "reasoning" in name), None)
    return usage_of(given, made, cached, reasoning)

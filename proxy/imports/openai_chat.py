"""OpenAI's own files: fine-tuning rows and batches; and pairs of bodies, as `jsonl` has them.

- fine-tuning: `{"messages": [… , {"role": "assistant", …}], "tools"?, "parallel_tool_calls"?}`; the last message is the
  answer. https://platform.openai.com/docs/guides/supervised-fine-tuning#formatting-your-data
- batch: input `{"custom_id", "method", "url", "body"}` and output `{"id", "custom_id", "response": {"status_code",
  "request_id", "body"}, "error"}`. The output alone doesn't say what was asked: put both into one file, in any order
  (`cat input.jsonl output.jsonl`). https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.imports import jsonl
from proxy.imports.messages import as_message, completion, failure
from proxy.imports.past import PastCall, moment
from proxy.imports.rows import Malformed, Row, text


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out; a batch's as soon as both halves were read."""
    asked: dict[str, Row] = {}
    answered: dict[str, Row] = {}
    for row in rows:
        custom_id = text(row.get("custom_id"))
        if custom_id is not None:
            half, other = (asked, answered) if "body" in row else (answered, asked)
            if custom_id in half:
                raise Malformed(f"the custom_id {custom_id!r} is there twice")
            half[custom_id] = row
            if custom_id in other and (call := _batched(asked[custom_id], answered[custom_id])):
                yield call
        elif "request" in row:
            yield from jsonl.read([row])
        else:
            yield _tuning_row(row)
    lost = next((custom_id for custom_id in answered if custom_id not in asked), None)
    if lost is not None:
        raise Malformed(
            f"the batch's answer {lost!r} has no request: put the batch's input and its output into one file"
        )


def _tuning_row(row: Row) -> PastCall:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(m, dict) for m in messages):
        raise Malformed('no "messages" list with a prompt and an answer')
    if messages[-1].get("role") != "assistant":
        raise Malformed("the last message is not the assistant's answer")
    answer = {name: value for name, value in messages[-1].items() if name != "weight"}
    return PastCall(
        request=row | {"messages": messages[:-1]},
        answer=completion([as_message(answer)], model=text(row.get("model"))),
    )


def _batched(question: Row, answer: Row) -> PastCall | None:
    """None for requests that the batch never came to: it expired or was cancelled."""
    request = question["body"]
    if not isinstance(request, dict):
        raise Malformed('"body" is no object')
    response = answer.get("response")
    if not isinstance(response, dict):
        return None
    body: Any = response.get("body")
    status = response.get("status_code", 200)
    if not isinstance(body, dict) or not isinstance(status, int):
        body, status = failure(None), 500
    return PastCall(
        request=request,
        answer=body,
        path=text(question.get("url")),
        status=status,
        at=moment(body.get("created") or body.get("created_at")),
        identity=text(answer.get("id")),
    )

"""Our own shape: `{"request": …, "response": …}` a line, in the bodies of the API.

Beside them, all optional: `sse` (the answer's exact stream), `assembled` (what it spells, in the place of `response`),
`status`, `endpoint`, `id`, `agent`, `session`, `arrived_at`, `duration_ms`, `first_token_ms`; `status` and `endpoint`
also in `meta`. A bare assistant message is taken for the completion around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.imports.messages import completion, failure
from proxy.imports.past import PastCall, moment, path_of
from proxy.imports.rows import Malformed, Row, mapping, number, text


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out; those whose answer is null were never answered, and are passed over."""
    for row in rows:
        if (call := _call(row)) is not None:
            yield call


def _call(row: Row) -> PastCall | None:
    meta = mapping(row.get("meta"))
    request = row.get("request")
    if not isinstance(request, dict):
        raise Malformed('no "request" object')
    status = row.get("status", meta.get("status", 200))
    if not isinstance(status, int):
        raise Malformed(f'"status" is no number: {status!r}')
    stream = row.get("sse")
    answer = row.get("response", row.get("assembled"))
    if answer is None and status >= 400:
        answer = failure(None)
    if answer is None and "response" in row:
        return None
    if not isinstance(answer, dict) and not isinstance(stream, str):
        raise Malformed('no "response" object')
    if isinstance(answer, dict) and "role" in answer and "choices" not in answer and "type" not in answer:
        answer = completion([answer], model=text(request.get("model")))
    answer = mapping(answer)
    if status < 400:  # what a server has refused may be of any form
        _check(request, answer, stream)
    return PastCall(
        request=request,
        answer=stream.encode() if isinstance(stream, str) else answer,
        path=path_of(text(row.get("endpoint")) or text(meta.get("endpoint")) or ""),
        status=status,
        at=moment(row.get("arrived_at") or answer.get("created") or answer.get("created_at")),
        duration_ms=number(row.get("duration_ms")) or 0.0,
        first_token_ms=number(row.get("first_token_ms")),
        identity=text(row.get("id")),
        agent=text(row.get("agent")),
        session=text(row.get("session")),
    )


def _check(request: dict[str, Any], answer: dict[str, Any], stream: object) -> None:
    """See that a model may have answered this.

    Raises:
        Malformed
    """
    messages = request.get("messages", [])
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Malformed('"messages" is no list of objects')
    for name in ("input", "prompt"):
        if not isinstance(request.get(name), str | list | None):
            raise Malformed(f'"{name}" is neither text nor a list')
    if not answer and not isinstance(stream, str):
        raise Malformed('"response" is empty')

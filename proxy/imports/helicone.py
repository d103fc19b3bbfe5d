"""Helicone: requests as `npx @helicone/export --include-body` and its REST API write them (JSON lines, JSON).

A row has `request_id`, `request_created_at`, `request_path`, `request_body`, `response_status`, `response_body`,
`response_created_at`, `delay_ms`, `time_to_first_token`, `request_user_id`, `request_properties`. Its CSV export has no
answers. https://docs.helicone.ai/tools/export, https://docs.helicone.ai/rest/request/post-v1requestquery-clickhouse,
https://github.com/Helicone/helicone/blob/main/examples/export/typescript/index.ts

A streamed answer is either put together already, or the list of its chunks in `streamed_data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson

from proxy.imports.messages import failure
from proxy.imports.past import PastCall, milliseconds, moment
from proxy.imports.rows import Malformed, Row, decoded, first, mapping, number, text
from proxy.wire import sse

_PROMPTS = ("messages", "input", "prompt")


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out; tools, vector searches and calls that were never answered are passed over.

    Raises:
        Malformed: also when no row has its bodies, because they were not asked for.
    """
    kept = bare = 0
    for row in rows:
        if not text(first(row, ("request_id", "response_id"))) or "request_created_at" not in row:
            raise Malformed('no "request_id" or no "request_created_at": not a row of Helicone')
        call = _call(row)
        kept += call is not None
        bare += call is None
        if call is not None:
            yield call
    if bare and not kept:
        raise Malformed("no row has its request and response: export JSON lines with --include-body")


def _call(row: Row) -> PastCall | None:
    request, response = mapping(row.get("request_body")), decoded(row.get("response_body"))
    status = int(number(row.get("response_status")) or 200)
    if not any(request.get(name) for name in _PROMPTS):
        return None
    if status >= 400 and not isinstance(response, dict):
        response = failure(text(response))
    if not isinstance(response, dict) or not response:
        return None
    begin, end = moment(row["request_created_at"]), moment(row.get("response_created_at"))
    properties = mapping(first(row, ("request_properties", "properties")))
    return PastCall(
        request=request,
        answer=_answer(response),
        path=_path(row),
        status=status if 100 <= status < 600 else 500,
        at=begin,
        duration_ms=number(row.get("delay_ms")) or milliseconds(begin, end) or 0.0,
        first_token_ms=number(row.get("time_to_first_token")),
        identity=text(first(row, ("request_id", "response_id"))),
        agent=text(properties.get("Helicone-Session-Name")),
        session=text(properties.get("Helicone-Session-Id")),
    )


def _path(row: Row) -> str | None:
    """`request_path` is a path, or the provider's whole URL; gateways put their own name before `/v1`."""
    path = urlsplit(text(row.get("request_path")) or "").path
    where = path.find("/v1/")
    return path[where:] if where >= 0 else None


def _answer(response: dict[str, Any]) -> dict[str, Any] | bytes:
    chunks = response.get("streamed_data")
    whole = {name: value for name, value in response.items() if name != "streamed_data"}
    if isinstance(chunks, list) and not any(name in whole for name in ("choices", "output", "content", "error")):
        return b"".join(sse.encode(orjson.dumps(chunk)) for chunk in chunks if isinstance(chunk, dict)) + sse.DONE
    return whole

"""The log: its newest calls as they come, and one call with all that was said."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import Response

from proxy.console.charts import timing
from proxy.console.page import SignedIn, page_router
from proxy.console.render import render
from proxy.console.transcript import read_request, read_response
from proxy.endpoints import calls as endpoint
from proxy.endpoints.access import InState
from proxy.errors import BadRequest
from proxy.state import State
from router.decision import Reason
from storage.database import ReadSession
from storage.ids import format_call_id, parse_call_id
from storage.repositories.calls import StoredCall, find_calls, get_call
from storage.repositories.clusters import list_clusters
from storage.repositories.copies import list_copies

router = page_router()

PER_PAGE = 50
MAX_FILTER_CHARS = 200
_ShortText = Annotated[str, Query(max_length=MAX_FILTER_CHARS)]


@router.get("/calls")
def show(
    request: Request,
    state: InState,
    session: SignedIn,
    task: _ShortText = "",
    served_by: Literal["", "llm", "slm"] = "",
    reason: Literal["", *Reason] = "",  # type: ignore[valid-type]
    agent: _ShortText = "",
    before: _ShortText = "",
    live: bool = True,
) -> Response:
    """A page of the log, newest first; the first page asks again by itself every few seconds, unless it is paused."""
    filters = {"task": task, "served_by": served_by, "reason": reason, "agent": agent}
    with state.database.read() as rows:
        found = find_calls(
            rows,
            cluster_id=task or None,
            served_by=served_by or None,
            reason=reason or None,
            agent=agent or None,
            before=_call_id(before) if before else None,
            limit=PER_PAGE + 1,
        )
        labels = _labels(rows, state)
    asked = {name: value for name, value in filters.items() if value}
    more = format_call_id(found[PER_PAGE - 1].call_id) if len(found) > PER_PAGE else ""
    return render(
        request,
        "calls",
        calls=[(format_call_id(row.call_id), row) for row in found[:PER_PAGE]],
        labels=labels,
        filters=filters,
        reasons=[each.value for each in Reason],
        older=urlencode(asked | {"before": more}) if more else "",
        asked=urlencode(asked),
        moves=live and not before,
        first=not before,
    )


@router.get("/calls/{call_id}")
def show_one(request: Request, state: InState, session: SignedIn, call_id: str) -> Response:
    """Request, answer, decision, time and money of one call."""
    with state.database.read() as rows:
        stored = get_call(rows, state.cipher, _call_id(call_id))
        copies = list_copies(rows, state.cipher, call_id=stored.row.call_id)
        label = _labels(rows, state).get(stored.row.cluster_id or "")
    row = stored.row
    return render(
        request,
        "call",
        call_id=stored.call_id,
        call=row,
        label=label,
        request_=read_request(stored.request_body),
        answer=read_response(
            row.endpoint, stored.response_body, row.response_content_type, row.response_content_encoding
        ),
        sizes=(_size(stored.request_body), _size(stored.response_body)),
        unserved=_unserved(stored),
        copies=[(copy.row, read_response("chat", copy.answer, "application/json", "")) for copy in copies],
        spans=timing(
            row.duration_ms,
            [(each["upstream"], each["duration_ms"]) for each in row.attempts],
            row.upstream,
            row.first_token_ms,
        ),
    )


@router.get("/calls/{call_id}/{part}")
def show_bytes(state: InState, session: SignedIn, call_id: str, part: Literal["request", "response"]) -> Response:
    """The exact bytes, to keep."""
    return endpoint.get_bytes(call_id, part, state, session.caller)


def _unserved(stored: StoredCall) -> list[tuple[dict[str, object], object]]:
    """Attempts whose answers the client never saw."""
    pairs = zip(stored.row.attempts, stored.attempt_answers, strict=True)
    return [(attempt, read_response("chat", answer, "application/json", "")) for attempt, answer in pairs if answer]


def _labels(session: ReadSession, state: State) -> dict[str, str]:
    return {row.cluster_id: row.label for row in list_clusters(session, state.cipher)}


def _size(body: bytes | None) -> int | None:
    return None if body is None else len(body)


def _call_id(text: str) -> bytes:
    try:
        return parse_call_id(text)
    except ValueError as error:
        raise BadRequest(f"{text[:80]!r} is no call id") from error

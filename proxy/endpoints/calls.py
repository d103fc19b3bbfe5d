"""The call log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query

from proxy.endpoints.access import Admin, InState, Viewer
from proxy.endpoints.schemas import Calls, Deleted
from proxy.errors import BadRequest
from storage.ids import format_call_id, parse_call_id
from storage.models import Call
from storage.repositories import calls, registry, retention

router = APIRouter()


@router.get("/calls")
def list_calls(
    state: InState,
    caller: Viewer,
    cluster: str | None = None,
    served_by: Literal["llm", "slm"] | None = None,
    reason: str | None = None,
    agent: str | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Calls:
    """The log, newest first; `next` is the `before` of the following page."""
    with state.database.read() as session:
        found = calls.find_calls(
            session,
            cluster_id=cluster,
            served_by=served_by,
            reason=reason,
            agent=agent,
            before=_call_id(before) if before else None,
            limit=limit,
        )
        total = calls.count_calls(session)
    shown = [_show(row) for row in found]
    return Calls(data=shown, total=total, next=shown[-1]["call_id"] if len(shown) == limit else None)


@router.get("/calls/{call_id}")
def get_call(call_id: str, state: InState, caller: Viewer) -> dict[str, Any]:
    """One call with its request and answer as they came, and the answers of attempts that were not served."""
    with state.database.read() as session:
        stored = calls.get_call(session, state.cipher, _call_id(call_id))
        attempts = zip(stored.row.attempts, stored.attempt_answers, strict=True)
        return _show(stored.row) | {
            "attempts": [attempt | {"answer": _body(answer or None)} for attempt, answer in attempts],
            "request_body": _body(stored.request_body),
            "response_body": _body(stored.response_body),
        }


@router.delete("/calls")
def delete_calls(state: InState, caller: Admin, origin: Annotated[str, Query(min_length=1)]) -> Deleted:
    """Delete all calls of one origin (its hash, as the log shows it)."""
    try:
        hashed = bytes.fromhex(origin)
    except ValueError as error:
        raise BadRequest(f"origin={origin!r} is not the hexadecimal hash that the log shows") from error
    with state.database.write() as session:
        deleted = retention.delete_by_origin(session, calls.packer(session, state.cipher), hashed)
        registry.audit(session, caller.name, "calls.deleted", origin, deleted=deleted)
    return Deleted(deleted=deleted)


_COLUMNS = [
    column.name
    for column in Call.__table__.columns
    if column.name not in {"call_id", "origin", "request_body", "response_body", "attempt_answers"}
]


def _show(row: Call) -> dict[str, Any]:
    return {
        "call_id": format_call_id(row.call_id),
        **{name: getattr(row, name) for name in _COLUMNS},
        "origin": row.origin.hex(),
        "complete": row.ended == "finished",
    }


def _body(body: bytes | None) -> Any:
    """A body as JSON where it is JSON, as text where it is text, else in hexadecimal digits."""
    if body is None:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"hex": body.hex()}


def _call_id(text: str) -> bytes:
    try:
        return parse_call_id(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is no call id") from error

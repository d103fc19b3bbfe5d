"""The call log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import Response

from proxy.endpoints.access import Admin, InState, Viewer
from proxy.endpoints.schemas import Calls, Deleted
from proxy.errors import BadRequest, NoSuchThing
from storage.encodings import decompress
from storage.ids import format_call_id, parse_call_id
from storage.models import Call
from storage.repositories import calls, registry
from storage.repositories.feedback import list_feedback
from storage.repositories.forgetting import Forgetting

router = APIRouter()


@router.get("/calls")
def list_calls(
    state: InState,
    caller: Viewer,
    cluster: str | None = None,
    served_by: Literal["llm", "slm"] | None = None,
    reason: str | None = None,
    agent: str | None = None,
    slower_than_ms: Annotated[float | None, Query(ge=0)] = None,
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
            slower_than_ms=slower_than_ms,
            before=parse_id(before) if before else None,
            limit=limit,
        )
        total = calls.count_calls(session)
    shown = [_show(row) for row in found]
    return Calls(data=shown, total=total, next=shown[-1]["call_id"] if len(shown) == limit else None)


@router.get("/calls/{call_id}", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def get_call(call_id: str, state: InState, caller: Viewer) -> Response:
    """One call with its request and answer, the answers of attempts that were not served, and feedback.

    A body that is JSON stands here letter by letter as it came: white space, repeated keys and long numbers included.
    `…_body_form` says how each is shown: `json`, `text` (a stream, say), or `hex` for `{"hex": …}` where it is neither.
    Compressed answers are shown unpacked. The bytes themselves are at `/calls/{id}/request` and `/response`.
    """
    with state.database.read() as session:
        stored = calls.get_call(session, state.cipher, parse_id(call_id))
        given = list_feedback(session, state.cipher, stored.row.call_id)
    request, request_form = _body(stored.request_body)
    response, response_form = _body(stored.response_body, stored.row.response_content_encoding)
    attempts = zip(stored.row.attempts, stored.attempt_answers, strict=True)
    shown = _show(stored.row) | {
        "attempts": [attempt | {"answer": _body(answer or None)[0]} for attempt, answer in attempts],
        "request_body": request,
        "request_body_form": request_form,
        "response_body": response,
        "response_body_form": response_form,
        "feedback": [asdict(each) for each in given],
    }
    return Response(orjson.dumps(shown, option=orjson.OPT_UTC_Z), media_type="application/json")


@router.get(
    "/calls/{call_id}/{part}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_bytes(call_id: str, part: Literal["request", "response"], state: InState, caller: Viewer) -> Response:
    """The exact bytes of a call's request or answer, still compressed if they came so.

    404: no such call, or its log level kept no bodies.
    """
    with state.database.read() as session:
        stored = calls.get_call(session, state.cipher, parse_id(call_id))
    body = stored.request_body if part == "request" else stored.response_body
    if body is None:
        raise NoSuchThing(f"the log keeps no {part} of call {stored.call_id}: it was logged as {stored.row.log!r}")
    # Somebody else's bytes: no browser may take them for a page of ours.
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return Response(body, media_type="application/octet-stream", headers=headers)


@router.delete("/calls")
def delete_calls(
    state: InState,
    caller: Admin,
    origin: Annotated[
        str, Query(min_length=1, description="its hash, as the log shows it; `none`: calls that came without a key")
    ],
) -> Deleted:
    """Delete all calls of one origin, and what no other call says too. Takes a while in a large log.

    Imported calls belong to no origin: `none` leaves them.
    """
    try:
        hashed = b"" if origin == "none" else bytes.fromhex(origin)
    except ValueError as error:
        raise BadRequest(f"origin={origin!r} is not the hexadecimal hash that the log shows, or `none`") from error
    if not hashed and origin != "none":
        raise BadRequest("origin is empty; `none` stands for the calls that came without a key")
    deleted = Forgetting(state.database, state.cipher, hashed).run()
    with state.database.write() as session:
        registry.audit(session, caller.name, "calls.deleted", origin, deleted=deleted)
    return Deleted(deleted=deleted)


_COLUMNS = [column.name for column in Call.__table__.columns if column.name not in {"call_id", "origin", "bodies_id"}]


def _show(row: Call) -> dict[str, Any]:
    return {
        "call_id": format_call_id(row.call_id),
        **{name: getattr(row, name) for name in _COLUMNS},
        "origin": row.origin.hex(),
        "complete": row.ended == "finished",
    }


def _body(body: bytes | None, content_encoding: str = "") -> tuple[Any, str | None]:
    """(a body to put into JSON, its form): JSON as it is, text as text, else hexadecimal digits."""
    if body is None:
        return None, None
    plain = decompress(body, content_encoding)
    if plain is not None:
        try:
            orjson.loads(plain)
            return orjson.Fragment(plain), "json"
        except orjson.JSONDecodeError:
            pass
        try:
            return plain.decode(), "text"
        except UnicodeDecodeError:
            pass
    return {"hex": body.hex()}, "hex"


def parse_id(text: str) -> bytes:
    """A call's id, out of a path, a query or a body.

    Raises:
        BadRequest: it is none.
    """
    try:
        return parse_call_id(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is no call id") from error

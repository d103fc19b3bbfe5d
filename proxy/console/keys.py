"""Keys of the proxy's own: who has one, and what it opens."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from proxy.auth import Role
from proxy.console.page import OwnForm, SignedIn, page_router
from proxy.console.render import render
from proxy.console.session import Session
from proxy.endpoints import keys
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import KeyAsked, KeyMade
from proxy.errors import BadRequest, Forbidden
from proxy.state import State

router = page_router()


@router.get("/keys")
def show(request: Request, state: InState, session: SignedIn) -> Response:
    """All keys, and a form for a new one."""
    return _page(request, state, session)


@router.post("/keys")
def make(request: Request, state: InState, session: SignedIn, fields: OwnForm) -> Response:
    """Make a key, and show it this once."""
    _check_admin(session)
    asked = {
        "name": fields.get("name", ""),
        "role": fields.get("role") or None,
        "max_log": fields.get("max_log", "full"),
        "may_divert": fields.get("may_divert") == "yes",
        "allows_training": fields.get("allows_training") == "yes",
    }
    try:
        wish = KeyAsked.model_validate(asked)
    except ValidationError as error:
        raise BadRequest(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    return _page(request, state, session, keys.make_key(wish, state, session.caller))


@router.post("/keys/{key_id}/revoke")
def revoke(state: InState, session: SignedIn, key_id: str, fields: OwnForm) -> Response:
    """End a key at once."""
    _check_admin(session)
    keys.end_key(key_id, state, session.caller)
    return RedirectResponse("/keys", 303)


def _page(request: Request, state: State, session: Session, made: KeyMade | None = None) -> Response:
    _check_admin(session)
    return render(request, "keys", keys=keys.get_keys(state, session.caller).data, made=made)


def _check_admin(session: Session) -> None:
    if session.caller.role < Role.ADMIN:
        raise Forbidden(f"this needs the role admin; yours is {session.caller.role.name.lower()}")

"""How an endpoint gets at the worker's state and its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from proxy.auth import Caller, Role, bearer_token, require
from proxy.errors import BadRequest
from proxy.keys import key_hash, origin_of
from proxy.state import State


def _state(request: Request) -> State:
    state: State = request.app.state.understudy
    return state


def only_known_parameters(request: Request) -> None:
    """Refuse a query with a parameter that the route doesn't have: a misspelt filter must not show everything.

    Raises:
        BadRequest: naming it, and those that there are.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise BadRequest(f"{request.method} {request.url.path} has no query parameter {name!r}; {has}")


@dataclass(frozen=True, slots=True)
class Rating:
    """Who gives feedback.

    Attributes:
        name: for the audit trail.
        origin: that of the only calls it may speak of; None: of all.
    """

    name: str
    origin: bytes | None = None


def _rater(request: Request) -> Rating:
    """Who gives feedback: an operator on any call, who has a key without a role on the calls made with it.

    Raises:
        Unauthorized: no token, or one that nobody has.
        Forbidden: a viewer.
    """
    state = _state(request)
    authorization = request.headers.get("authorization")
    token = bearer_token(authorization)
    key = state.serving.keys.get(key_hash(token)) if token else None
    if token and key is not None and key.role is None:
        return Rating(key.actor, origin_of(state.cipher, token))
    return Rating(state.gate.enter(authorization, Role.OPERATOR, state.serving.keys).name)


InState = Annotated[State, Depends(_state)]
Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Operator = Annotated[Caller, Depends(require(Role.OPERATOR))]
Rater = Annotated[Rating, Depends(_rater)]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]

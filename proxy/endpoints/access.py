"""How an endpoint gets at the worker's state and its caller."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from proxy.auth import Caller, Role, require
from proxy.errors import BadRequest
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


InState = Annotated[State, Depends(_state)]
Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Operator = Annotated[Caller, Depends(require(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]

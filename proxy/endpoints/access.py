"""How an endpoint gets at the worker's state and its caller."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from proxy.auth import Caller, Role, require
from proxy.state import State


def _state(request: Request) -> State:
    state: State = request.app.state.understudy
    return state


InState = Annotated[State, Depends(_state)]
Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Operator = Annotated[Caller, Depends(require(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]

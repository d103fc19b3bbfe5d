"""What is there to serve with, and who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from proxy.console.page import SignedIn, page_router
from proxy.console.render import render
from proxy.endpoints import audit, models
from proxy.endpoints.access import InState

router = page_router()

_MANY = 100


@router.get("/models")
def show_models(request: Request, state: InState, session: SignedIn) -> Response:
    """Registered SLMs, and what each SLM server says that it has."""
    return render(request, "models", found=models.list_models(state, session.caller), urls=state.settings.slm_url)


@router.get("/audit")
def show_audit(
    request: Request, state: InState, session: SignedIn, many: Annotated[int, Query(ge=1, le=1000)] = _MANY
) -> Response:
    """The newest entries of the audit trail."""
    entries = audit.get_audit(state, session.caller, many).data
    return render(request, "audit", entries=entries, many=many, more=len(entries) == many < 1000)

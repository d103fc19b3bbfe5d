"""Background work: what was asked for, how far it is, what it found."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from proxy.console.page import OwnForm, SignedIn, page_router
from proxy.console.render import render
from proxy.endpoints import runs
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import WishedRun
from proxy.runs.queue import RunKind

router = page_router()

PER_PAGE = 30
_ShortText = Annotated[str, Query(max_length=100)]


@router.get("/runs")
def show(request: Request, state: InState, session: SignedIn, before: _ShortText = "") -> Response:
    """A page of runs, newest first; the first page follows those that are at work."""
    page = runs.list_runs(state, session.caller, before or None, PER_PAGE)
    return render(request, "runs", runs=page.data, older=page.next, moves=not before)


@router.get("/runs/{run_id}")
def show_one(request: Request, state: InState, session: SignedIn, run_id: str) -> Response:
    """One run: its stages, what it says, and its end in words."""
    return render(request, "run", run=runs.get_run(run_id, state, session.caller))


@router.post("/runs")
def ask(state: InState, session: SignedIn, fields: OwnForm) -> Response:
    """Ask for the log to be learned from, or for an SLM to be trained where the form names a task."""
    wish = {"kind": RunKind.TRAIN, "cluster": fields["cluster"]} if "cluster" in fields else {"kind": RunKind.LEARN}
    asked = runs.ask(WishedRun.model_validate(wish), state, session.caller, Response())
    return RedirectResponse(f"/runs/{asked.id}", 303)


@router.post("/runs/{run_id}/cancel")
def cancel(state: InState, session: SignedIn, run_id: str, fields: OwnForm) -> Response:
    """End a run."""
    runs.cancel(run_id, state, session.caller)
    return RedirectResponse(f"/runs/{run_id}", 303)

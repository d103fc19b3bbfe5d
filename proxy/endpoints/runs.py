"""Background work: asked for, watched, cancelled. The learner does it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from proxy.endpoints.access import InState, Operator, Viewer
from proxy.endpoints.schemas import RunDetails, RunShown, RunsPage, WishedRun
from proxy.runs.queue import RunWish
from storage.repositories.clusters import check_cluster
from storage.repositories.registry import audit

router = APIRouter()


@router.post("/runs", status_code=201, responses={200: {"description": "the same is queued or running already"}})
def ask(body: WishedRun, state: InState, caller: Operator, response: Response) -> RunDetails:
    """Ask for a run; a learner takes it when it has done those before.

    200 instead of 201: the same is queued or running already, and this is it. 404: no such cluster.
    """
    wish = RunWish(**body.model_dump()).checked()
    if wish.cluster is not None:
        with state.database.read() as session:
            check_cluster(session, wish.cluster)
    run, is_new = state.runs.enqueue(wish, caller.name)
    if is_new:
        with state.database.write() as session:
            audit(session, caller.name, "run.asked", run.id, **body.model_dump(mode="json", exclude_none=True))
    else:
        response.status_code = 200
    return RunDetails.of(run)


@router.get("/runs")
def list_runs(
    state: InState,
    caller: Viewer,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RunsPage:
    """Runs, newest first; `next` is the `before` of the following page."""
    shown = [RunShown.of(run) for run in state.runs.list_runs(before=before, limit=limit)]
    return RunsPage(data=shown, next=shown[-1].id if len(shown) == limit else None)


@router.get("/runs/{run_id}")
def get_run(run_id: str, state: InState, caller: Viewer) -> RunDetails:
    """One run: how far it is, what it has told, and what its finished stages found."""
    return RunDetails.of(state.runs.get(run_id))


@router.delete("/runs/{run_id}")
def cancel(run_id: str, state: InState, caller: Operator) -> RunDetails:
    """End a run; what it is at is killed within seconds. 409: it has ended already."""
    run = state.runs.cancel(run_id)
    with state.database.write() as session:
        audit(session, caller.name, "run.cancelled", run_id)
    return RunDetails.of(run)

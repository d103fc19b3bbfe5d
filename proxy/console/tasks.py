"""All tasks: a map of where the money goes, and a table."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from fastapi.responses import Response

from proxy.console.charts import tiles
from proxy.console.page import SignedIn, page_router
from proxy.console.render import render
from proxy.endpoints import clusters
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import Cluster

router = page_router()

PER_PAGE = 50
MAX_TILES = 120
#: Stages in the order of a task's life; without one the LLM answers.
STAGES = ("live", "canary", "shadow")
_ORDERS = {
    "cost": lambda task: -task.cost_usd,
    "calls": lambda task: -task.calls,
    "slm": lambda task: -task.slm_calls,
    "name": lambda task: task.label.casefold(),
}


@router.get("/tasks")
def show(
    request: Request,
    state: InState,
    session: SignedIn,
    order: Literal["cost", "calls", "slm", "name"] = "cost",
    stage: Literal["", "live", "canary", "shadow", "llm"] = "",
    page: int = 1,
) -> Response:
    """The map shows all tasks, the table those of a stage, a page at a time."""
    found = clusters.list_clusters(state, session.caller).data
    kept = sorted((task for task in found if not stage or _stage(task) == stage), key=_ORDERS[order])
    pages = max(-(-len(kept) // PER_PAGE), 1)
    page = min(max(page, 1), pages)
    priced = any(task.cost_usd for task in found)
    weighed = [(task, task.cost_usd if priced else float(task.calls)) for task in found]
    largest = sorted(weighed, key=lambda pair: -pair[1])[:MAX_TILES]
    return render(
        request,
        "tasks",
        tasks=kept[(page - 1) * PER_PAGE : page * PER_PAGE],
        total=len(found),
        kept=len(kept),
        map=tiles(largest),
        priced=priced,
        mapped=sum(weight for _, weight in largest) / (sum(weight for _, weight in weighed) or 1.0),
        order=order,
        stage=stage,
        stages=STAGES,
        counts={name: sum(_stage(task) == name for task in found) for name in (*STAGES, "llm")},
        page=page,
        pages=pages,
    )


def _stage(task: Cluster) -> str:
    return task.stage.value if task.stage else "llm"

"""Is the process alive, does it serve, and what do its metrics say."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from proxy.state import State
from storage.errors import DatabaseDown

router = APIRouter(include_in_schema=False)


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.api_route("/readyz", methods=["GET", "HEAD"])
def readyz(request: Request) -> dict[str, Any]:
    """It serves. A dead database never makes it fail: calls are relayed and logged all the same."""
    state: State = request.app.state.understudy
    try:
        state.database.ping()
        database = "ok"
    except DatabaseDown as error:
        database = f"down: {error}"
    snapshot = state.serving.snapshot
    return {
        "status": "ready",
        "database": database,
        "snapshot": snapshot.snapshot_id if snapshot else None,
        "promotions": len(state.serving.promotions),
    }


@router.api_route("/metrics", methods=["GET", "HEAD"])
def metrics(request: Request) -> Response:
    """Prometheus' text format, all workers added up."""
    state: State = request.app.state.understudy
    return Response(state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

"""Money."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from proxy import savings as account
from proxy.endpoints.access import InState, Viewer
from proxy.endpoints.schemas import SavedInAll, SavedOn, Savings
from storage.repositories.calls import Totals, totals

router = APIRouter()

_SUMMED = (
    "calls",
    "slm_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "slm_cost_usd",
    "wasted_usd",
    "counterfactual_usd",
)


@router.get("/savings")
def get_savings(
    state: InState,
    caller: Viewer,
    by: Literal["cluster", "model", "agent", "day"] = "cluster",
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
) -> Savings:
    """Money, calls, tokens and latency; net, and negative where the SLMs cost more than they saved."""
    with state.database.read() as session:
        groups = totals(session, by, since, until)
        gpu_usd = account.of_gpu(session, state.settings, since, until)
    rows = [_show(total) for total in groups]
    sums = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
    return Savings(
        by=by,
        data=rows,
        total=SavedInAll(**sums, gpu_usd=gpu_usd, savings_usd=sum(row.savings_usd for row in rows) - gpu_usd),
        unpriced_calls=sum(row.unpriced for row in rows),
    )


def _show(total: Totals) -> SavedOn:
    return SavedOn(**asdict(total), savings_usd=account.of_calls(total))

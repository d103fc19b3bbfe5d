"""Money."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from proxy.endpoints.access import InState, Viewer
from proxy.endpoints.schemas import SavedInAll, SavedOn, Savings, Unattributed
from proxy.money import savings as account
from proxy.money.savings import Parts
from storage.repositories.calls import Totals

router = APIRouter()

_SUMMED = ("calls", "slm_calls", "input_tokens", "output_tokens", "cost_usd")


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
        drawn_up = account.statement(session, state.settings, by, since, until)
    without_calls = [Totals.of_none(key) for key in drawn_up.parts if key not in {one.key for one in drawn_up.groups}]
    rows = [
        SavedOn(**asdict(total) | _money(drawn_up.parts[total.key])) for total in [*drawn_up.groups, *without_calls]
    ]
    sums = {name: sum(getattr(row, name) for row in rows) for name in _SUMMED}
    return Savings(
        by=by,
        data=rows,
        unattributed=Unattributed(**_money(drawn_up.rest)),
        total=SavedInAll(**sums, **_money(drawn_up.whole)),
        unpriced_calls=sum(row.unpriced for row in rows),
    )


def _money(parts: Parts) -> dict[str, Any]:
    """The parts by their names in the API, and what they come to."""
    shown = asdict(parts)
    return shown | {"slm_cost_usd": shown.pop("slm_usd"), "savings_usd": parts.net_usd}

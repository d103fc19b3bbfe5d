"""The start page: what the SLMs have saved, net of everything that they cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from fastapi import Request
from fastapi.responses import Response

from proxy.console.charts import Days, days
from proxy.console.page import SignedIn, page_router
from proxy.console.render import render
from proxy.endpoints import savings as endpoint
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import SavedOn
from proxy.money import savings as account
from proxy.state import State
from storage.repositories.clusters import list_clusters
from storage.repositories.costs import cost_totals
from storage.repositories.promotions import current_promotions

router = page_router()

MAX_TASKS = 25
#: Of the account, in order: field, what it is, and whether it is earned or spent.
_LINES = (
    ("counterfactual_usd", "What the LLM would have cost for the calls that SLMs served", 1),
    ("slm_cost_usd", "SLM tokens", -1),
    ("gpu_usd", "SLM servers’ time, busy or idle", -1),
    ("shadow_usd", "SLM answers to calls that the LLM served, to compare", -1),
    ("audit_usd", "LLM answers to calls that SLMs served, to compare", -1),
    ("wasted_usd", "SLM answers that were not served", -1),
    ("training_usd", "Training and evaluation", -1),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the account; `usd` is signed."""

    name: str
    usd: float


@dataclass(frozen=True, slots=True)
class OnTask:
    """What a task's calls came to; without a name where they belong to no task."""

    cluster_id: str | None
    label: str
    stage: str | None
    sums: SavedOn


@router.api_route("/", methods=["GET", "HEAD"])
def show(request: Request, state: InState, session: SignedIn, last: Literal["7", "30", "90"] = "30") -> Response:
    """Net money, what it consists of, per day and per task; before the first call, how to send one."""
    window = int(last)
    since = datetime.combine(datetime.now(UTC).date() - timedelta(days=window - 1), datetime.min.time(), UTC)
    by_task = endpoint.get_savings(state, session.caller, "cluster", since, None)
    whole = by_task.total
    if not whole.calls and not endpoint.get_savings(state, session.caller, "cluster", None, None).total.calls:
        return render(request, "first_run", base_url=f"{str(request.base_url).rstrip('/')}/v1")
    by_day = endpoint.get_savings(state, session.caller, "day", since, None)
    return render(
        request,
        "savings",
        window=window,
        since=since,
        whole=whole,
        account=[Line(name, sign * getattr(whole, field)) for field, name, sign in _LINES],
        idle=by_task.unattributed.gpu_usd,
        spent=whole.cost_usd,
        unpriced=by_task.unpriced_calls,
        chart=_chart(state, by_day.data, since.date(), window),
        tasks=_tasks(state, by_task.data),
        max_tasks=MAX_TASKS,
    )


def _chart(state: State, rows: list[SavedOn], first: date, window: int) -> Days:
    """Net per day: what the day's calls came to, less the SLM servers' whole time on it, and what was spent on none."""
    of_day = {row.key: row.savings_usd + row.gpu_usd for row in rows}
    per_second = account.gpu_usd_per_second(state.settings)
    values = []
    with state.database.read() as session:
        for number in range(window):
            day = first + timedelta(days=number)
            begin = datetime.combine(day, datetime.min.time(), UTC)
            end = begin + timedelta(days=1)
            rent = per_second * account.rented_seconds(session, state.settings, begin, end) if per_second else 0.0
            training = sum(spent.usd for spent in cost_totals(session, begin, end))
            values.append((day, of_day.get(day.isoformat(), 0.0) - rent - training))
    return days(values)


def _tasks(state: State, rows: list[SavedOn]) -> list[OnTask]:
    """The tasks that cost or saved most."""
    with state.database.read() as session:
        labels = {row.cluster_id: row.label for row in list_clusters(session, state.cipher)}
        stages = {row.cluster_id: row.stage for row in current_promotions(session)}
    found = [
        OnTask(
            row.key,
            labels.get(row.key or "", "no longer a task" if row.key else "no task"),
            stages.get(row.key or ""),
            row,
        )
        for row in rows
    ]
    return sorted(found, key=lambda each: (-abs(each.sums.savings_usd), -each.sums.cost_usd))

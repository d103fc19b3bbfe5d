"""Costs that belong to no call: training, evaluation, an LLM that judges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from storage.database import ReadSession, WriteSession
from storage.models import CostRow

#: What the LLM costs when it compares free texts.
JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class CostTotals:
    """What was spent on one kind of work for one cluster, or (None) for all."""

    kind: str
    cluster_id: str | None
    usd: float


def add_cost(session: WriteSession, kind: str, cluster_id: str | None, usd: float, figures: dict[str, Any]) -> CostRow:
    """Write down what something cost, and what that was reckoned from."""
    row = CostRow(at=datetime.now(UTC), kind=kind, cluster_id=cluster_id, usd=usd, figures=figures)
    session.add(row)
    session.flush()
    return row


def cost_totals(session: ReadSession, since: datetime | None = None, until: datetime | None = None) -> list[CostTotals]:
    """Sums by kind and cluster."""
    query = select(CostRow.kind, CostRow.cluster_id, func.sum(CostRow.usd)).group_by(CostRow.kind, CostRow.cluster_id)
    if since is not None:
        query = query.where(CostRow.at >= since)
    if until is not None:
        query = query.where(CostRow.at < until)
    found = [CostTotals(kind, cluster_id, float(usd)) for kind, cluster_id, usd in session.execute(query)]
    return sorted(found, key=lambda total: (total.kind, total.cluster_id or ""))

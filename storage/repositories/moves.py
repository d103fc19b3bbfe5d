"""Moves between stages: the life of every SLM on every cluster, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from storage.database import ReadSession, WriteSession
from storage.models import StageMoveRow


def add_move(session: WriteSession, row: StageMoveRow) -> None:
    """Write down a step."""
    session.add(row)
    session.flush()


def last_move(
    session: ReadSession, cluster_id: str, model: str, causes: Sequence[str] | None = None
) -> StageMoveRow | None:
    """An SLM's latest step on a cluster, of any cause or of one among `causes`; None where it never took one."""
    query = select(StageMoveRow).where(StageMoveRow.cluster_id == cluster_id, StageMoveRow.model == model)
    if causes is not None:
        query = query.where(StageMoveRow.cause.in_(causes))
    return session.scalar(query.order_by(StageMoveRow.move_id.desc()).limit(1))


def newest_move(session: ReadSession, cluster_id: str) -> int:
    """The id of the last step of any SLM on a cluster; 0 before the first."""
    query = select(func.max(StageMoveRow.move_id)).where(StageMoveRow.cluster_id == cluster_id)
    return session.scalar(query) or 0


def list_moves(session: ReadSession, cluster_id: str, causes: Sequence[str] | None = None) -> list[StageMoveRow]:
    """All steps of all SLMs on a cluster, of any cause or of those among `causes`; newest first."""
    query = select(StageMoveRow).where(StageMoveRow.cluster_id == cluster_id)
    if causes is not None:
        query = query.where(StageMoveRow.cause.in_(causes))
    return list(session.scalars(query.order_by(StageMoveRow.move_id.desc())))

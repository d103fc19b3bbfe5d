"""Promotions: the current one of each cluster, and all that ever were."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select

from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import PromotionRow
from storage.repositories.state import bump_serving_version


def current_promotions(session: ReadSession) -> list[PromotionRow]:
    """The promotions in force, one a cluster."""
    return list(session.scalars(select(PromotionRow).where(PromotionRow.ended_at.is_(None))))


def current_promotion(session: ReadSession, cluster_id: str) -> PromotionRow | None:
    """A cluster's promotion in force, or None."""
    query = select(PromotionRow).where(PromotionRow.cluster_id == cluster_id, PromotionRow.ended_at.is_(None))
    return session.scalar(query)


def history(session: ReadSession, cluster_id: str) -> list[PromotionRow]:
    """All promotions of a cluster, newest first."""
    query = select(PromotionRow).where(PromotionRow.cluster_id == cluster_id)
    return list(session.scalars(query.order_by(PromotionRow.promotion_id.desc())))


def first_promoted_at(session: ReadSession) -> datetime | None:
    """When the first of all promotions was made; None when there was none."""
    return session.scalar(select(func.min(PromotionRow.created_at)))


def promote(session: WriteSession, row: PromotionRow) -> PromotionRow:
    """Put a promotion in force in the place of the cluster's current one."""
    _end(session, row.cluster_id, row.actor)
    session.flush()
    session.add(row)
    session.flush()
    bump_serving_version(session)
    return row


def set_audit(session: WriteSession, promotion_id: int, share: float | None, in_doubt: bool) -> None:
    """Have another share of a promotion's calls audited, and the LLM answer them while there is doubt.

    The share that was asked for stays on record.

    Raises:
        NotFound: it is not in force.
    """
    row = session.get(PromotionRow, promotion_id, with_for_update=True)
    if row is None or row.ended_at is not None:
        raise NotFound(f"promotion {promotion_id} is not in force")
    row.audit_share, row.in_doubt = share, in_doubt
    bump_serving_version(session)


def demote(session: WriteSession, cluster_id: str, actor: str) -> PromotionRow:
    """End a cluster's promotion.

    Raises:
        NotFound: it has none.
    """
    ended = _end(session, cluster_id, actor)
    if ended is None:
        raise NotFound(f"cluster {cluster_id} has no current promotion")
    bump_serving_version(session)
    return ended


def _end(session: WriteSession, cluster_id: str, actor: str) -> PromotionRow | None:
    current = session.scalar(
        select(PromotionRow)
        .where(PromotionRow.cluster_id == cluster_id, PromotionRow.ended_at.is_(None))
        .with_for_update()
    )
    if current is not None:
        current.ended_at, current.ended_by = datetime.now(UTC), actor
    return current

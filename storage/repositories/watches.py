"""What is watched of each promotion: its audit, its drift, and what it said in the shadow of the LLM."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from storage.database import ReadSession, WriteSession
from storage.models import PromotionRow, WatchRow


def get_watch(session: ReadSession, promotion_id: int) -> WatchRow | None:
    """Of one promotion; None while nothing was compared or measured."""
    return session.get(WatchRow, promotion_id)


def begin_watch(session: WriteSession, promotion: PromotionRow, row: WatchRow) -> WatchRow:
    """Begin to watch a promotion."""
    row.promotion_id, row.cluster_id, row.updated_at = promotion.promotion_id, promotion.cluster_id, datetime.now(UTC)
    session.add(row)
    session.flush()
    return row


def watch_before(session: ReadSession, promotion: PromotionRow) -> WatchRow | None:
    """What was watched of the same SLM on the same certificate just before: at another stage, or with another share.

    None for a promotion without a certificate, and where another SLM, or nobody, was in force in between.
    """
    if promotion.certificate_id is None:
        return None
    query = select(PromotionRow).where(
        PromotionRow.cluster_id == promotion.cluster_id, PromotionRow.promotion_id < promotion.promotion_id
    )
    before = session.scalar(query.order_by(PromotionRow.promotion_id.desc()).limit(1))
    same = before is not None and before.ended_at is not None and before.ended_at >= _begun(promotion)
    if before is None or not same or (before.model, before.certificate_id) != (
        promotion.model, promotion.certificate_id,
    ):  # fmt: skip
        return None
    return session.get(WatchRow, before.promotion_id)

"""What is watched of each promotion: its audit, its drift, and what it said in the shadow of the LLM."""

from __future__ import annotations

from sqlalchemy import select

from storage.database import ReadSession, WriteSession
from storage.models import PromotionRow, WatchRow


def get_watch(session: ReadSession, promotion_id: int) -> WatchRow | None:
    """Of one promotion; None while nothing was compared or measured."""
    return session.get(WatchRow, promotion_id)


def put_watch(session: WriteSession, row: WatchRow) -> None:
    """Keep what is known now."""
    session.merge(row)


def watch_before(session: ReadSession, promotion: PromotionRow) -> WatchRow | None:
    """What was watched of the same SLM on the same certificate before: at another stage, or with another share.

    None for a promotion without a certificate.
    """
    if promotion.certificate_id is None:
        return None
    query = (
        select(WatchRow)
        .join(PromotionRow, PromotionRow.promotion_id == WatchRow.promotion_id)
        .where(
            PromotionRow.cluster_id == promotion.cluster_id,
            PromotionRow.model == promotion.model,
            PromotionRow.certificate_id == promotion.certificate_id,
            PromotionRow.promotion_id < promotion.promotion_id,
        )
    )
    return session.scalar(query.order_by(WatchRow.promotion_id.desc()).limit(1))


def is_doubted(session: ReadSession, promotion: PromotionRow) -> bool:
    """Whether there is doubt about a promotion, by the last that is known of it: see `WatchRow.audit`."""
    known = get_watch(session, promotion.promotion_id) or watch_before(session, promotion)
    return known is not None and known.audit.get("doubt", 0.0) > 0

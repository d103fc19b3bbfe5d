"""What is not kept: calls that are too old, and the pieces only they had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select

from storage.cipher import SECONDS_PER_DAY
from storage.database import WriteSession
from storage.models import Block, Call, CopyRow, FeedbackRow, SharedPiece
from storage.repositories.pieces import SHARED_DAYS, lock_log

BLOCKS_AT_ONCE = 500


def delete_older_than(session: WriteSession, days: int, limit: int = 5000) -> int:
    """Delete calls that are older, the oldest first, with what was said of them, and copies that are.

    Returns:
        How many were deleted; fewer than `limit` means that it is done.
    """
    lock_log(session)
    horizon = datetime.now(UTC) - timedelta(days=days)
    stray = select(CopyRow.copy_id).where(CopyRow.at < horizon).order_by(CopyRow.at).limit(limit)
    session.execute(delete(CopyRow).where(CopyRow.copy_id.in_(stray)))
    old = select(Call.call_id).where(Call.arrived_at < horizon).order_by(Call.arrived_at).limit(limit)
    session.execute(delete(CopyRow).where(CopyRow.call_id.in_(old)))
    session.execute(delete(FeedbackRow).where(FeedbackRow.call_id.in_(old)))
    return session.execute(delete(Call).where(Call.call_id.in_(old))).rowcount  # type: ignore[attr-defined, no-any-return]


def delete_unused_pieces(session: WriteSession, days: int, limit: int = 5000) -> bool:
    """Delete some of the pieces that only calls older than this could refer to, which must have been deleted.

    They go by whole days (UTC), within two days of the last of their calls.

    Returns:
        Whether there may be more.
    """
    lock_log(session)
    today = int(datetime.now(UTC).timestamp() // SECONDS_PER_DAY)
    # A call that waited in the spool since yesterday may still look for what was said the day before.
    stale = select(SharedPiece.piece_hash).where(SharedPiece.day < today - 1 - SHARED_DAYS).limit(limit)
    deleted: int = session.execute(delete(SharedPiece).where(SharedPiece.piece_hash.in_(stale))).rowcount  # type: ignore[attr-defined]
    if deleted == limit:
        return True
    unused = select(Block.first_id).where(Block.day < today - days - SHARED_DAYS).limit(BLOCKS_AT_ONCE)
    deleted = session.execute(delete(Block).where(Block.first_id.in_(unused))).rowcount  # type: ignore[attr-defined]
    return deleted == BLOCKS_AT_ONCE

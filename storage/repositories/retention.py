"""What is not kept: calls that are too old, and the messages only they had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, text

from storage.database import WriteSession
from storage.models import Call, StoredMessage

USED_GRANULARITY = timedelta(days=1)
_MESSAGES_LOCK = 7318349394477057


def keep_messages(session: WriteSession) -> None:
    """Until the end of the transaction nobody deletes messages: new calls may refer to those that are there."""
    _lock(session, "pg_advisory_xact_lock_shared")


def hold_new_calls(session: WriteSession) -> None:
    """Until the end of the transaction nobody adds calls, and those that were being added are there."""
    _lock(session, "pg_advisory_xact_lock")


def _lock(session: WriteSession, function: str) -> None:
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(text(f"SELECT {function}({_MESSAGES_LOCK})"))


def delete_older_than(session: WriteSession, days: int, limit: int = 5000) -> int:
    """Delete calls that are older, the oldest first.

    Returns:
        How many were deleted; fewer than `limit` means that it is done.
    """
    old = select(Call.call_id).where(Call.arrived_at < _horizon(days)).order_by(Call.arrived_at).limit(limit)
    return session.execute(delete(Call).where(Call.call_id.in_(old))).rowcount  # type: ignore[attr-defined, no-any-return]


def delete_unused_messages(session: WriteSession, days: int, limit: int = 5000) -> int:
    """Delete messages that only calls older than this could refer to, which must have been deleted.

    Returns:
        How many were deleted; fewer than `limit` means that it is done.
    """
    hold_new_calls(session)
    # A message is noted as used at most once a day, and a call may wait in the spool: two days of grace.
    unused = StoredMessage.last_used_at < _horizon(days) - 2 * USED_GRANULARITY
    some = select(StoredMessage.message_hash).where(unused).limit(limit)
    return session.execute(delete(StoredMessage).where(StoredMessage.message_hash.in_(some))).rowcount  # type: ignore[attr-defined, no-any-return]


def _horizon(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)

"""What is not kept: calls that are too old or that somebody wants to be forgotten, and the messages only they had."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, text

from storage.bodies import Packer
from storage.database import ReadSession, WriteSession
from storage.models import Call, StoredMessage

USED_GRANULARITY = timedelta(days=1)
BATCH = 500
_MESSAGES_LOCK = 7318349394477057


def keep_messages(session: WriteSession) -> None:
    """Until the end of the transaction nobody deletes messages: new calls may refer to those that are there."""
    _lock(session, "pg_advisory_xact_lock_shared")


def _delete_messages(session: WriteSession) -> None:
    """Until the end of the transaction nobody adds calls."""
    _lock(session, "pg_advisory_xact_lock")


def _lock(session: WriteSession, function: str) -> None:
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(text(f"SELECT {function}({_MESSAGES_LOCK})"))


def delete_by_origin(session: WriteSession, pack: Packer, origin: bytes) -> int:
    """Delete the calls of one credential, and what no other call says too; that is looked for in the whole log.

    Returns:
        How many calls there were.
    """
    _delete_messages(session)
    only_theirs = {found for some in _references(session, pack, Call.origin == origin) for found in some}
    deleted: int = session.execute(delete(Call).where(Call.origin == origin)).rowcount  # type: ignore[attr-defined]
    if only_theirs:
        for some in _references(session, pack, Call.origin != origin):
            only_theirs.difference_update(some)
    hashes = sorted(only_theirs)
    for start in range(0, len(hashes), BATCH):
        session.execute(delete(StoredMessage).where(StoredMessage.message_hash.in_(hashes[start : start + BATCH])))
    return deleted


def _references(session: ReadSession, pack: Packer, which: ColumnElement[bool]) -> Iterator[list[bytes]]:
    """The messages that calls refer to, a batch of calls at a time."""
    columns = select(Call.call_id, Call.request_body, Call.response_body).where(which).order_by(Call.call_id)
    last = b""
    while rows := session.execute(columns.where(Call.call_id > last).limit(BATCH)).all():
        last = rows[-1].call_id
        bodies = [body for row in rows for body in (row.request_body, row.response_body) if body is not None]
        yield [reference for body in bodies for reference in pack.references(body)]


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
    _delete_messages(session)
    # A message is noted as used at most once a day, and a call may wait in the spool: two days of grace.
    unused = StoredMessage.last_used_at < _horizon(days) - 2 * USED_GRANULARITY
    some = select(StoredMessage.message_hash).where(unused).limit(limit)
    return session.execute(delete(StoredMessage).where(StoredMessage.message_hash.in_(some))).rowcount  # type: ignore[attr-defined, no-any-return]


def _horizon(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)

"""Keys of the proxy's own: who has one, what it allows. Every change is seen by all workers within seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import KeyRow
from storage.repositories.state import bump_serving_version


def add_key(session: WriteSession, row: KeyRow) -> KeyRow:
    """Put a key in force."""
    session.add(row)
    session.flush()
    bump_serving_version(session)
    return row


def revoke_key(session: WriteSession, key_id: str, actor: str) -> KeyRow:
    """End a key for ever. One that has ended already stays as it is.

    Raises:
        NotFound: there is no such key.
    """
    row = session.get(KeyRow, key_id)
    if row is None:
        raise NotFound(f"there is no key {key_id}; `understudy keys list` and GET /admin/v1/keys show them")
    if row.revoked_at is None:
        row.revoked_at, row.revoked_by = datetime.now(UTC), actor
        bump_serving_version(session)
    return row


def list_keys(session: ReadSession) -> list[KeyRow]:
    """All keys, those that were revoked included; newest first."""
    return list(session.scalars(select(KeyRow).order_by(KeyRow.created_at.desc(), KeyRow.key_id)))


def keys_in_force(session: ReadSession) -> list[KeyRow]:
    """Those that were not revoked."""
    return list(session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None))))


def origins_without_training(session: ReadSession) -> frozenset[str]:
    """Origins, hexadecimal, whose calls may not be trained on. A revoked key's calls are still in the log."""
    return frozenset(
        origin.hex() for origin in session.scalars(select(KeyRow.origin).where(KeyRow.allows_training.is_(False)))
    )

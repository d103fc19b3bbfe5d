"""Single values: the serving version, which grows with every change that workers must see, and the active snapshot."""

from __future__ import annotations

from storage.database import ReadSession, WriteSession
from storage.models import State

SERVING_VERSION = "serving_version"
ACTIVE_SNAPSHOT = "active_snapshot"


def serving_version(session: ReadSession) -> int:
    """0 before the first change."""
    row = session.get(State, SERVING_VERSION)
    return int(row.value) if row else 0


def bump_serving_version(session: WriteSession) -> None:
    """Make every worker look again."""
    row = session.get(State, SERVING_VERSION, with_for_update=True)
    if row is None:
        session.add(State(name=SERVING_VERSION, value="1"))
    else:
        row.value = str(int(row.value) + 1)
    session.flush()


def active_snapshot_id(session: ReadSession) -> str | None:
    """None before anything was learned."""
    row = session.get(State, ACTIVE_SNAPSHOT)
    return row.value if row else None


def set_active_snapshot(session: WriteSession, snapshot_id: str) -> None:
    """Name the snapshot that workers serve from."""
    session.merge(State(name=ACTIVE_SNAPSHOT, value=snapshot_id))
    session.flush()
    bump_serving_version(session)

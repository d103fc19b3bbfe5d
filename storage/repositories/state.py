"""Single values.

The serving version, which grows with every change that workers must see; the active snapshot; whose key the log is of.
"""

from __future__ import annotations

from storage.database import ReadSession, WriteSession
from storage.models import State

SERVING_VERSION = "serving_version"
ACTIVE_SNAPSHOT = "active_snapshot"
WATCHED_SNAPSHOT = "watched_snapshot"
LOG_KEY = "log_key"


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


def lock_serving(session: WriteSession) -> None:
    """Let nobody else change what is in force until this session ends; what is read from here on stays true.

    Before anything was learned there is no task whose promotion could change, and nothing to lock.
    """
    session.get(State, SERVING_VERSION, with_for_update=True)


def active_snapshot_id(session: ReadSession) -> str | None:
    """None before anything was learned."""
    row = session.get(State, ACTIVE_SNAPSHOT)
    return row.value if row else None


def set_active_snapshot(session: WriteSession, snapshot_id: str) -> None:
    """Name the snapshot that workers serve from."""
    session.merge(State(name=ACTIVE_SNAPSHOT, value=snapshot_id))
    session.flush()
    bump_serving_version(session)


def watched_snapshot_id(session: ReadSession) -> str | None:
    """The last snapshot whose changes of tasks were acted on; None before the first."""
    row = session.get(State, WATCHED_SNAPSHOT)
    return row.value if row else None


def set_watched_snapshot(session: WriteSession, snapshot_id: str) -> None:
    """Note that a snapshot's changes of tasks were acted on."""
    session.merge(State(name=WATCHED_SNAPSHOT, value=snapshot_id))


def is_log_of(session: ReadSession, key: bytes) -> bool | None:
    """Whether the log is written with the key of this fingerprint; None where that was never noted."""
    row = session.get(State, LOG_KEY)
    return None if row is None else row.value == key.hex()


def set_log_key(session: WriteSession, key: bytes) -> None:
    """Note the fingerprint of the key that the log is written with."""
    session.merge(State(name=LOG_KEY, value=key.hex()))
    session.flush()

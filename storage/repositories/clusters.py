"""Snapshots and the tasks in the active one. What a task's row quotes from prompts is encrypted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from storage.cipher import Cipher
from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import ClusterRow, SnapshotRow
from storage.repositories.state import set_active_snapshot

_SEALED = "sealed:"


@dataclass(frozen=True, slots=True)
class StoredCluster:
    """A discovered task.

    Attributes:
        label, skeleton: for people; they quote the prompt.
        contract: the form of its answers; it may hold words that were answered.
        calls, conversations: how many it was learned from.
        examples: call ids, hexadecimal.
    """

    cluster_id: str
    snapshot_id: str
    label: str
    contract: dict[str, Any]
    skeleton: str
    calls: int
    conversations: int
    examples: list[Any]


def activate_snapshot(
    session: WriteSession, cipher: Cipher, snapshot_id: str, calls: int, clusters: Iterable[StoredCluster]
) -> None:
    """Put a snapshot and its tasks in force in the place of the old ones."""
    now = datetime.now(UTC)
    session.merge(SnapshotRow(snapshot_id=snapshot_id, created_at=now, activated_at=now, calls=calls))
    session.execute(delete(ClusterRow))
    session.add_all(_sealed(cluster, cipher) for cluster in clusters)
    set_active_snapshot(session, snapshot_id)


def earlier_snapshots(session: ReadSession, snapshot_id: str, limit: int = 5) -> list[str]:
    """Ids of the snapshots that were in force before this one, the last of them first."""
    query = select(SnapshotRow.snapshot_id).where(SnapshotRow.snapshot_id != snapshot_id)
    return list(session.scalars(query.order_by(SnapshotRow.activated_at.desc()).limit(limit)))


def snapshots_since(session: ReadSession, snapshot_id: str) -> list[str]:
    """Ids of the snapshots that were put in force after this one, in that order."""
    known = session.get(SnapshotRow, snapshot_id)
    query = select(SnapshotRow.snapshot_id).where(SnapshotRow.snapshot_id != snapshot_id)
    if known is not None and known.activated_at is not None:
        query = query.where(SnapshotRow.activated_at >= known.activated_at)
    return list(session.scalars(query.order_by(SnapshotRow.activated_at)))


def cluster_ids(session: ReadSession) -> set[str]:
    """Of the active snapshot's tasks."""
    return set(session.scalars(select(ClusterRow.cluster_id)))


def cluster_sizes(session: ReadSession) -> dict[str, int]:
    """Of each of the active snapshot's tasks, how many conversations it was learned from."""
    return {
        row.cluster_id: row.conversations
        for row in session.execute(select(ClusterRow.cluster_id, ClusterRow.conversations))
    }


def last_snapshot(session: ReadSession) -> SnapshotRow | None:
    """The snapshot that was put in force last; None before anything was learned."""
    return session.scalar(select(SnapshotRow).order_by(SnapshotRow.activated_at.desc()).limit(1))


def list_clusters(session: ReadSession, cipher: Cipher) -> list[StoredCluster]:
    """The active snapshot's tasks, largest first.

    Raises:
        Undecipherable: they were learned with another key.
    """
    rows = session.scalars(select(ClusterRow).order_by(ClusterRow.calls.desc(), ClusterRow.cluster_id))
    return [_opened(row, cipher) for row in rows]


def get_cluster(session: ReadSession, cipher: Cipher, cluster_id: str) -> StoredCluster:
    """One task.

    Raises:
        NotFound: the active snapshot has none of that id.
        Undecipherable: it was learned with another key.
    """
    return _opened(_get(session, cluster_id), cipher)


def check_cluster(session: ReadSession, cluster_id: str) -> None:
    """See that there is a task.

    Raises:
        NotFound: the active snapshot has none of that id.
    """
    _get(session, cluster_id)


def _get(session: ReadSession, cluster_id: str) -> ClusterRow:
    row = session.get(ClusterRow, cluster_id)
    if row is None:
        raise NotFound(f"there is no cluster {cluster_id}; GET /admin/v1/clusters lists them")
    return row


def _sealed(cluster: StoredCluster, cipher: Cipher) -> ClusterRow:
    def seal(text: str) -> str:
        sealed = cipher.encrypt(text.encode("utf-8", "surrogatepass"), _place(cluster.cluster_id))
        return _SEALED + base64.b64encode(sealed).decode()

    return ClusterRow(
        **asdict(cluster)
        | {
            "label": seal(cluster.label),
            "skeleton": seal(cluster.skeleton),
            "contract": {_SEALED: seal(json.dumps(cluster.contract))},
        }
    )


def _opened(row: ClusterRow, cipher: Cipher) -> StoredCluster:
    """What earlier versions wrote is in plain text."""

    def unseal(text: str) -> str:
        if not text.startswith(_SEALED):
            return text
        sealed = base64.b64decode(text.removeprefix(_SEALED))
        return cipher.decrypt(sealed, _place(row.cluster_id)).decode("utf-8", "surrogatepass")

    contract = row.contract
    return StoredCluster(
        cluster_id=row.cluster_id,
        snapshot_id=row.snapshot_id,
        label=unseal(row.label),
        contract=json.loads(unseal(contract[_SEALED])) if _SEALED in contract else contract,
        skeleton=unseal(row.skeleton),
        calls=row.calls,
        conversations=row.conversations,
        examples=row.examples,
    )


def _place(cluster_id: str) -> bytes:
    """What a row's texts are encrypted for."""
    return f"cluster:{cluster_id}".encode()

"""Snapshots and the tasks in the active one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import delete, select

from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import ClusterRow, SnapshotRow
from storage.repositories.state import set_active_snapshot


def activate_snapshot(session: WriteSession, snapshot_id: str, calls: int, clusters: Iterable[ClusterRow]) -> None:
    """Put a snapshot and its tasks in force in the place of the old ones."""
    now = datetime.now(UTC)
    session.merge(SnapshotRow(snapshot_id=snapshot_id, created_at=now, activated_at=now, calls=calls))
    session.execute(delete(ClusterRow))
    session.add_all(clusters)
    set_active_snapshot(session, snapshot_id)


def list_clusters(session: ReadSession) -> list[ClusterRow]:
    """The active snapshot's tasks, largest first."""
    return list(session.scalars(select(ClusterRow).order_by(ClusterRow.calls.desc(), ClusterRow.cluster_id)))


def get_cluster(session: ReadSession, cluster_id: str) -> ClusterRow:
    """One task.

    Raises:
        NotFound: the active snapshot has none of that id.
    """
    row = session.get(ClusterRow, cluster_id)
    if row is None:
        raise NotFound(f"there is no cluster {cluster_id}; GET /admin/v1/clusters lists them")
    return row

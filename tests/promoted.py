"""A data directory in which the triage task was learned, and an SLM is in force for it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from router.learning.discovery import discover
from router.promotion import Stage
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.models import PromotionRow
from storage.repositories import promotions
from storage.repositories.clusters import StoredCluster, activate_snapshot
from tests.router.conftest import logged_calls

MODEL, SLM = "m", "gpu"


def put_in_force(data_dir: Path, stage: Stage, **promotion: Any) -> str:
    """Learn two tasks, and promote `MODEL` on the server `SLM` for triage.

    Args:
        promotion: further columns of its row.

    Returns:
        The task's id.
    """
    snapshot = _snapshot()
    cipher = Cipher.open(data_dir)
    database = Database(f"sqlite:///{data_dir / 'understudy.db'}")
    database.upgrade(cipher)
    ArtifactStore(data_dir / "artifacts", cipher).put("snapshot", snapshot.dump(), {}, artifact_id=snapshot.snapshot_id)
    task = next(each for each in snapshot.clusters.values() if "triage desk" in each.skeleton)
    known = StoredCluster(
        task.cluster_id, snapshot.snapshot_id, "triage", task.contract.to_json(), "", task.calls, task.conversations, []
    )
    columns = {"share": 1.0} | promotion
    row = PromotionRow(
        cluster_id=task.cluster_id, model=MODEL, stage=stage.value, slm=SLM, forced=True, actor="a",
        created_at=datetime.now(UTC), **columns,
    )  # fmt: skip
    with database.write() as session:
        activate_snapshot(session, cipher, snapshot.snapshot_id, snapshot.calls, [known])
        promotions.promote(session, row)
    database.close()
    return task.cluster_id


@cache
def _snapshot() -> Snapshot:
    return discover(logged_calls()).snapshot

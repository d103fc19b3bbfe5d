"""`understudy learn`: the log through discovery into a snapshot in force. Its heavy half is `router.learning`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from proxy.errors import Conflict
from proxy.learning.lineage import Change, changes_of, put_on_record
from proxy.learning.teacher import taught_calls
from router.encoder import StaticEncoder, TransformerEncoder
from router.errors import SnapshotInvalid
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import StorageError
from storage.ids import parse_call_id
from storage.models import Call
from storage.repositories.calls import assign_clusters
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.state import active_snapshot_id, lock_serving

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run found; counts of calls and tasks.

    Attributes:
        damaged: calls that were left out, because what they said lies in a damaged block of the log.
        changes: what became of the tasks of the snapshot before, where they did not just go on.
    """

    snapshot_id: str
    calls: int
    clusters: int
    unassigned: int
    damaged: int
    changes: tuple[Change, ...]

    @property
    def words(self) -> list[str]:
        """For the terminal, and a run's record: clauses."""
        damaged = [f"{damaged_calls(self.damaged)}; skipped"] if self.damaged else []
        found = f"{self.calls} calls, {self.clusters} tasks, {self.unassigned} calls in none; "
        found += f"snapshot {self.snapshot_id} is in force"
        return [*damaged, found, *(change.in_words for change in self.changes)]


def learn_from_log(
    database: Database,
    cipher: Cipher,
    artifacts: ArtifactStore,
    progress: Callable[[str], None],
    encoder: str = "",
    actor: str = "cli",
) -> Learned:
    """Learn a snapshot from all calls in the log and put it in force.

    Args:
        database, cipher, artifacts: the log, and where snapshots go.
        progress: told the name of each stage as it begins, and `name: how far` as it goes on.
        encoder: sentence-transformers model that payloads are read with. Empty, or not to be had: tasks are known by
            their templates alone.
        actor: who wants it, for the audit trail: a task that was split or merged loses its certificates.

    Raises:
        Conflict: there is nothing in the log to learn from.
        Undecipherable: the log is of another key.
        DatabaseDown: the old snapshot stays in force.
    """
    damaged: list[Call] = []
    with database.read() as session:
        taught = taught_calls(session, cipher, progress, on_damaged=damaged.append)
        calls = [each.call for each in taught if each.call is not None]
        active = active_snapshot_id(session)
    if not calls and damaged:
        raise Conflict(f"the log holds no call to learn from: {damaged_calls(len(damaged))}")
    if not calls:
        raise Conflict("the log holds no call to learn from yet; send some through the proxy, or `understudy import`")
    previous = _open(artifacts, active)
    progress("preparing the encoder")
    static = _static_encoder(encoder, previous)
    transformer = TransformerEncoder(encoder) if static else None
    found = discover(calls, previous, static=static, encoder=transformer, report=_with_share(progress))
    snapshot = found.snapshot
    progress("writing the snapshot")
    about = {"calls": len(calls), "clusters": len(snapshot.clusters)}
    artifact_id = artifacts.put("snapshot", snapshot.dump(), about, artifact_id=snapshot.snapshot_id)
    assigned = [(parse_call_id(call.call_id), name) for call, name in zip(calls, found.assignments, strict=True)]
    rows = [
        StoredCluster(
            cluster_id=cluster.cluster_id,
            snapshot_id=artifact_id,
            label=cluster.label,
            contract=cluster.contract.to_json(),
            skeleton=cluster.skeleton,
            calls=cluster.calls,
            conversations=cluster.conversations,
            examples=list(cluster.examples),
        )
        for cluster in snapshot.clusters.values()
    ]
    changes = changes_of(snapshot.lineage)
    with database.write() as session:
        lock_serving(session)
        activate_snapshot(session, cipher, artifact_id, len(calls), rows)
        assign_clusters(session, artifact_id, assigned)
        put_on_record(session, changes, actor)
    unassigned = sum(cluster is None for _, cluster in assigned)
    return Learned(artifact_id, len(calls), len(rows), unassigned, len(damaged), changes)


def damaged_calls(count: int) -> str:
    """In words, how many calls can't be read."""
    return f"what {count} {'calls' if count > 1 else 'call'} said lies in damaged blocks of the log"


def _static_encoder(source: str, previous: Snapshot | None) -> StaticEncoder | None:
    """The encoder's static half: from the snapshot in force, or distilled now, half a minute."""
    if not source:
        return None
    if previous and previous.static and previous.static.source == source:
        return previous.static
    try:
        return distill(source)
    except OSError as error:
        log.warning("encoder.not_loaded", encoder=source, error=str(error))
        return None


def _with_share(progress: Callable[[str], None]) -> Callable[[str, float], None]:
    """Tell `progress` a stage and its share done as one line."""
    return lambda stage, share: progress(f"{stage}: {share:.0%}" if share else stage)


def _open(artifacts: ArtifactStore, snapshot_id: str | None) -> Snapshot | None:
    """The snapshot in force, whose ids are to be kept; one that can't be read has none to keep."""
    if snapshot_id is None:
        return None
    try:
        return Snapshot.load(artifacts.open(snapshot_id).files)
    except (StorageError, SnapshotInvalid) as error:
        log.warning("snapshot.not_loaded", snapshot=snapshot_id, error=str(error))
        return None

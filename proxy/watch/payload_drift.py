"""The payloads of a task's traffic, watched for drift: the log's calls, as they come in, through `proof/drift.py`.

A payload's distance is how unlike it is to what its task has seen, by the static encoder, which costs a tenth of a
millisecond. The calls that a snapshot was learned from lie near by themselves, so distances are compared with those of
the first 200 conversations that came after it: they set the limit, and later ones are tested against it. A new snapshot
measures with another ruler, and begins anew. Tasks that are known by their template alone have no payload to watch.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from proxy.learning.teacher import logged_call
from router.errors import SnapshotInvalid
from router.features import CallFeatures
from router.learning.conversations import conversation_of
from router.learning.proof.drift import Drift
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.errors import StorageError
from storage.models import PromotionRow
from storage.repositories.calls import calls_after

log = structlog.get_logger()

BASELINE_CONVERSATIONS = 200
_CALLS_AT_ONCE = 40
#: The spool brings calls of several workers, a little out of order.
_SETTLED = timedelta(seconds=5)
#: Traffic that is faster than this is sampled.
_BEHIND = timedelta(minutes=1)


class PayloadDrift:
    """Measures by the snapshot in force."""

    def __init__(self, cipher: Cipher, artifacts: ArtifactStore) -> None:
        self._cipher = cipher
        self._artifacts = artifacts
        self._snapshot: Snapshot | None = None

    def use(self, snapshot_id: str | None) -> None:
        """Measure by this snapshot from now on; one that can't be loaded measures nothing."""
        if snapshot_id is None or (self._snapshot and self._snapshot.snapshot_id == snapshot_id):
            return
        try:
            self._snapshot = Snapshot.load(self._artifacts.open(snapshot_id).files)
        except (StorageError, SnapshotInvalid) as error:
            self._snapshot = None
            log.warning("snapshot.not_loaded", snapshot=snapshot_id, error=str(error))

    def look(self, session: ReadSession, promotion: PromotionRow, kept: dict[str, Any] | None) -> dict[str, Any] | None:
        """Take the promoted task's next calls.

        Args:
            kept: what this returned the last time.

        Returns:
            What is known now; None where there is nothing to watch, or nothing new.
        """
        snapshot, cluster_id, now = self._snapshot, promotion.cluster_id, datetime.now(UTC)
        if snapshot is None or snapshot.task_of.get(cluster_id) not in snapshot.payloads:
            return None
        if kept is None or kept["snapshot"] != snapshot.snapshot_id:
            begin = max(promotion.created_at, snapshot.created_at)
            kept = {"snapshot": snapshot.snapshot_id, "after": [begin.isoformat(), ""], "baseline": [], "drift": None}
        at, call_id = datetime.fromisoformat(kept["after"][0]), bytes.fromhex(kept["after"][1])
        if now - at > _BEHIND and kept["drift"] is not None:
            at = now - _BEHIND
        calls = calls_after(session, self._cipher, cluster_id, (at, call_id), now - _SETTLED, _CALLS_AT_ONCE)
        if not calls:
            return None
        baseline: dict[str, float] = dict(kept["baseline"])
        drift = Drift.from_json(kept["drift"]) if kept["drift"] is not None else None
        for stored in calls:
            logged = logged_call(stored)
            distance = _distance(snapshot, cluster_id, logged.features) if logged else None
            if logged is None or distance is None:
                continue
            conversation = conversation_of(logged.features)
            if drift is not None:
                drift = drift if conversation in baseline else drift.observe(conversation, distance)
            elif len(baseline) < BASELINE_CONVERSATIONS:
                baseline.setdefault(conversation, distance)
            if drift is None and len(baseline) == BASELINE_CONVERSATIONS:
                drift = Drift.start(list(baseline.values()))
        last = calls[-1].row
        return {
            "snapshot": snapshot.snapshot_id,
            "after": [last.arrived_at.isoformat(), last.call_id.hex()],
            "baseline": list(baseline.items()),
            "drift": drift.to_json() if drift is not None else None,
        }


def _distance(snapshot: Snapshot, cluster_id: str, call: CallFeatures) -> float | None:
    """How unlike a call's payload is to what the task has seen; None where it has none."""
    task = snapshot.task_of[cluster_id]
    recognition = snapshot.profiles.recognise(call)
    text = snapshot.profiles.payload(recognition.variant, call) if recognition.task == task else ""
    if not text.strip() or snapshot.static is None:
        return None
    return -float(snapshot.payloads[task].static.read(snapshot.static.encode([text])).score[0])

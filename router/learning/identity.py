"""Task identities that survive learning again, so that promotions, certificates and dashboards do.

A new task is an old one when the snapshot in force takes most of its calls for that one. No membership lists are kept:
the old snapshot itself, asked about the new log, says what it would have called each call.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from router.snapshot import Lineage

#: An old id goes to a task that holds this share of its calls, and of whose own recognised calls this share is the old
#: one's.
MIN_SHARE = 0.5
#: A part of this size of an old task (or of a new one) is on record as a split (or a merger).
FAIR_SHARE = 0.2


def keep_identities(
    assignments: NDArray[np.int64], previous: Sequence[str | None], seeds: Sequence[str]
) -> tuple[dict[int, str], tuple[Lineage, ...]]:
    """Give each task its old id where it is the old task, else a new one.

    Args:
        assignments: (N,) cluster of each call in [0, C), -1 for none.
        previous: (N,) cluster id under which the snapshot in force knows each call.
        seeds: C texts that new ids are made of: the same log learned from scratch gets the same ids.

    Returns:
        Cluster → cluster id, and what became of the tasks that did not just go on. Ids are matched so that as many
        calls as possible keep theirs: a split task's goes to the part with most of its calls, a merger gets the
        largest one's. An id of the old snapshot is never given to another task.
    """
    olds = sorted({old for old in previous if old is not None})
    overlap = np.zeros((len(seeds), len(olds)), dtype=np.int64)  # (C, O)
    place = {old: column for column, old in enumerate(olds)}
    old_sizes = Counter(old for old in previous if old is not None)
    for cluster, old in zip(assignments.tolist(), previous, strict=True):
        if cluster >= 0 and old is not None:
            overlap[cluster, place[old]] += 1
    ids: dict[int, str] = {}
    for cluster, column in zip(*linear_sum_assignment(-overlap), strict=True):
        shared = overlap[cluster, column]
        of_old, of_new = old_sizes[olds[column]], overlap[cluster].sum()
        if shared > 0 and shared >= MIN_SHARE * of_old and shared >= MIN_SHARE * of_new:
            ids[int(cluster)] = olds[column]
    taken = set(olds)
    for cluster, seed in enumerate(seeds):
        if cluster not in ids:
            ids[cluster] = _new_id(seed, taken)
            taken.add(ids[cluster])
    return ids, _lineage(ids, olds, overlap, old_sizes)


def _lineage(
    ids: Mapping[int, str], olds: Sequence[str], overlap: NDArray[np.int64], old_sizes: Mapping[str, int]
) -> tuple[Lineage, ...]:
    """What did not just go on; all of it is news where there was no snapshot, and so none."""
    if not olds:
        return ()
    of_old = overlap / np.array([old_sizes[old] for old in olds])
    of_new = overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1)
    parts = np.maximum(of_old, of_new) >= FAIR_SHARE  # (C, O)
    split = {old for old, heirs in zip(olds, parts.sum(axis=0), strict=True) if heirs > 1}
    changes = []
    for cluster in sorted(ids):
        before = tuple(olds[column] for column in np.flatnonzero(parts[cluster]).tolist())
        if before != (ids[cluster],) or split.intersection(before):
            changes.append(Lineage(ids[cluster], before))
    kept = set(ids.values())
    return tuple(changes) + tuple(Lineage(None, (old,)) for old in olds if old not in kept)


def _new_id(seed: str, taken: set[str]) -> str:
    attempt = 0
    while True:
        digest = hashlib.blake2b(f"{seed}\0{attempt}".encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
        if f"c-{digest}" not in taken:
            return f"c-{digest}"
        attempt += 1

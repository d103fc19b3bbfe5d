"""Task identities that survive learning again, so that promotions and dashboards do."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_SHARE = 0.5


def keep_identities(
    assignments: NDArray[np.int64], previous: Sequence[str | None], seeds: Sequence[str]
) -> dict[int, str]:
    """Give each task its old id where it is the old task, else a new one.

    Args:
        assignments: (N,) task of each call, -1 for none.
        previous: (N,) cluster id under which the snapshot in force knows each call.
        seeds: a text for each task that a new id is made of.

    Returns:
        Task → cluster id. An old id goes to the task that holds most of its calls, if that is half of them at least;
        what was split keeps its id in the larger part, what was merged keeps the larger one's.
    """
    pairs: Counter[tuple[int, str]] = Counter()
    old_sizes: Counter[str] = Counter()
    for task, old in zip(assignments.tolist(), previous, strict=True):
        if old is not None:
            old_sizes[old] += 1
            if task >= 0:
                pairs[task, old] += 1
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for (task, old), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        if task not in ids and old not in taken and count >= MIN_SHARE * old_sizes[old]:
            ids[task] = old
            taken.add(old)
    for task, seed in enumerate(seeds):
        if task not in ids:
            ids[task] = _new_id(seed, taken)
            taken.add(ids[task])
    return ids


def _new_id(seed: str, taken: set[str]) -> str:
    attempt = 0
    while True:
        digest = hashlib.blake2b(f"{seed}\0{attempt}".encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
        if f"c-{digest}" not in taken:
            return f"c-{digest}"
        attempt += 1

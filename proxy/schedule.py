"""When runs begin by themselves. Decisions only: what is known goes in, what is to be done comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: The log has to have grown by this share since the snapshot in force, or by so many calls: learning again what was
#: learned already costs a minute for every 100,000 calls, and finds the same.
GROWTH = 0.2
GROWTH_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Learnable:
    """What is known of the log.

    Attributes:
        new_calls: in it since the snapshot in force was learned.
        learned_calls: that this was learned from; None without one.
        since: when it was put in force; without one, when the first call came. None while there is neither.
    """

    new_calls: int
    learned_calls: int | None
    since: datetime | None


def is_learning_due(known: Learnable, every_hours: float, now: datetime) -> bool:
    """Whether to learn now.

    The first snapshot doesn't wait for its hour where there is enough to learn from.

    Args:
        every_hours: the least time between two snapshots; 0: never.
        now: aware.
    """
    if not every_hours or known.since is None or known.new_calls <= 0:
        return False
    waited = now - known.since >= timedelta(hours=every_hours)
    if known.learned_calls is None:
        return waited or known.new_calls >= GROWTH_CALLS
    return waited and known.new_calls >= min(GROWTH_CALLS, GROWTH * known.learned_calls)

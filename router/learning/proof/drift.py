"""Traffic that no longer looks like what was certified.

A certificate speaks of calls like its own. Payload distances are compared with those of the certified calls: a limit is
set that few further calls exceed while the traffic stays the same (a nonparametric tolerance limit: Wilks, Ann. Math.
Stat. 12 (1941)), and exceeding it more often is tested like a broken promise, at every call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

from router.learning.proof.audit import Alarm, AuditInvalid
from router.learning.proof.betting import RateTest

#: A promotion whose traffic stays what it was is demoted for drift in at most so many of all lives: one half because of
#: the limit, one half because of the calls.
FALSE_DRIFT = 1e-5
#: Share of unchanged calls that may exceed the limit.
_TAIL = 0.1
_REMEMBERED = 512


def tail_limit(values: ArrayLike, share: float, delta: float) -> float:
    """The least limit that at most `share` of further values like these exceed, with confidence 1 − δ.

    Args:
        values: (N,) independent: one of each conversation.
        share: in (0, 1).
        delta: in (0, 1).

    Returns:
        One of the values; infinity when there are too few: 10 % with confidence 1 − 5e-6 takes 116.
    """
    falling = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    n = len(falling)
    ranks = np.arange(1, n + 1)
    # The share that exceeds the k-th largest value is Beta(k, n − k + 1)-distributed, or smaller where there are ties.
    safe = ranks[betainc(ranks, n - ranks + 1, share) >= 1 - delta]
    return float(falling[safe[-1] - 1]) if len(safe) else float("inf")


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the traffic of one promotion has moved; a value, to be stored after every call.

    Attributes:
        limit: of the payload distance; infinite when too few calls were certified to set one, and nothing is tested.
        n: conversations that count.
        far: how many of them are beyond the limit.
        test: whether that is too many.
        recent: the conversations that counted last.
    """

    limit: float
    n: int
    far: int
    test: RateTest
    recent: tuple[str, ...] = ()

    @classmethod
    def start(cls, distances: ArrayLike) -> Drift:
        """Begin with the payload distances of the certified calls, (N,), one of each conversation."""
        return cls(tail_limit(distances, _TAIL, FALSE_DRIFT / 2), 0, 0, RateTest.start(_TAIL))

    def observe(self, conversation: str, distance: float) -> Drift:
        """Take the next call that was recognised as the task's, whoever served it; not a number counts as far."""
        if conversation in self.recent or self.limit == float("inf"):
            return self
        far = not distance <= self.limit
        recent = (*self.recent, conversation)[-_REMEMBERED:]
        return replace(self, n=self.n + 1, far=self.far + far, test=self.test.observe(far), recent=recent)

    @property
    def alarm(self) -> Alarm | None:
        """What is wrong; once an alarm, always an alarm."""
        return Alarm.DRIFTED if self.test.rejects(FALSE_DRIFT / 2) else None

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON value; `from_json` goes on from it. An infinite limit is null."""
        limit = None if self.limit == float("inf") else self.limit
        return {"limit": limit, "n": self.n, "far": self.far, "test": self.test.to_json(), "recent": list(self.recent)}

    @classmethod
    def from_json(cls, value: Any) -> Drift:
        """Go on where `to_json` was called.

        Raises:
            AuditInvalid: not such a state.
        """
        try:
            limit = float("inf") if value["limit"] is None else float(value["limit"])
            recent = tuple(str(name) for name in value["recent"])
            return cls(limit, int(value["n"]), int(value["far"]), RateTest.from_json(value["test"]), recent)
        except (KeyError, TypeError, ValueError) as error:
            raise AuditInvalid(f"not a drift watch's state: {error}") from error

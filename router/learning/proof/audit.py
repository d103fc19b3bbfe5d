"""A certificate kept under test by live traffic, after every audited call.

Two tests run, each wrong in at most half of `FALSE_DEMOTION` of all lives:

- the promise: served calls disagree more often than promised, whatever they did before. A promise that is kept, at
  rates that may come and go below it, survives.
- the change: the SLM disagrees more often than when it was certified, and more often than promised. It knows how good
  the SLM was, and so hears sooner; it takes rates that come and go for a change, when they go up to the promise.

How soon a rise by ten points is noticed, in audited conversations (mean of 500 lives), by what the SLM disagreed
before, by the conversations it was certified on, and by those audited since:

    certified  audited    0 %    1 %    2 %    3 %    5 %
           59        0    501    358    276    215    149
           59      300    123    226    263    256    189
          500        0     65    142    216    248    178
          500     1000     57    140    192    247    223

59 conversations hardly tell 1 % from 5 %, so that 11 % is no news at first: a fresh promotion with a thin certificate
should be audited in full for its first 300 conversations.

Calls of one conversation share their mistakes, so that a burst of failures in one is one failure: only the first
audited call of a conversation counts. Calls must therefore be drawn for the audit call by call; a share near 1 audits
hardly anything but first turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from router.certificate import Certificate
from router.learning.proof.agreement import Outcome
from router.learning.proof.betting import ChangeTest, RateTest, confidence_sequence
from router.learning.proof.standard import Standard

#: A promotion that keeps its promise and hasn't changed is demoted in at most so many of all lives, however long. For
#: the change this is proved of all SLMs that are put to the proof, and simulated for those that pass.
FALSE_DEMOTION = 1e-4
#: Conversations that are remembered, to count each only once; one that comes back later counts again.
_REMEMBERED = 512


class Alarm(StrEnum):
    """Why live traffic speaks against a promotion."""

    BROKEN = "bound_broken"
    REGRESSED = "regressed"
    DRIFTED = "drifted"


class AuditInvalid(ValueError):
    """Not the JSON form of an audit's or a drift watch's state."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The evidence of one promotion's life so far; a value, to be stored after every call.

    Attributes:
        n: conversations that count.
        failures: how many of them disagree.
        uncompared: audited calls without an outcome: the LLM didn't answer (429, cut off), the judge was out of reach.
            They say nothing about the SLM.
        repeated: further calls of conversations that had counted.
        promise, change: the two tests.
        recent: the conversations that counted last.
    """

    n: int
    failures: int
    uncompared: int
    repeated: int
    promise: RateTest
    change: ChangeTest
    recent: tuple[str, ...] = ()

    @classmethod
    def start(cls, certificate: Certificate | None, standard: Standard) -> Audit:
        """Begin a promotion's life.

        Args:
            certificate: of what is promoted; None for a promotion that was forced without one.
            standard: what is promised today; its comparator must be the certificate's.

        Raises:
            ValueError: the judge rejects so much of what is right that its verdicts can break no promise.
        """
        unknown = certificate.incomparable if certificate else 0
        failures, n = (certificate.failures - unknown, certificate.n - unknown) if certificate else (0, 0)
        return cls(0, 0, 0, 0, RateTest.start(standard.limit), ChangeTest.start(standard.limit, failures, n))

    def observe(self, conversation: str, outcome: Outcome) -> Audit:
        """Take the next audited call, in the order in which calls were served; a fraction of a millisecond."""
        if outcome is Outcome.INCOMPARABLE:
            return replace(self, uncompared=self.uncompared + 1)
        if conversation in self.recent:
            return replace(self, repeated=self.repeated + 1)
        failed = outcome is Outcome.DISAGREE
        return replace(
            self,
            n=self.n + 1,
            failures=self.failures + failed,
            promise=self.promise.observe(failed),
            change=self.change.observe(failed),
            recent=(*self.recent, conversation)[-_REMEMBERED:],
        )

    @property
    def alarm(self) -> Alarm | None:
        """What is wrong; once an alarm, always an alarm."""
        if self.promise.rejects(FALSE_DEMOTION / 2):
            return Alarm.BROKEN
        return Alarm.REGRESSED if self.change.rejects(FALSE_DEMOTION / 2) else None

    @property
    def disagreement(self) -> float | None:
        """Share of the conversations that disagree, over the whole life; None before the first."""
        return self.failures / self.n if self.n else None

    def interval(self, delta: float) -> tuple[float, float]:
        """Disagreement over the whole life, as the comparator sees it: within these bounds at all times, with 1 − δ."""
        low, high = confidence_sequence(self.failures, self.n, delta, expected=self.promise.limit)
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON value of some kilobytes; `from_json` goes on from it."""
        return {
            "n": self.n, "failures": self.failures, "uncompared": self.uncompared, "repeated": self.repeated,
            "promise": self.promise.to_json(), "change": self.change.to_json(), "recent": list(self.recent),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> Audit:
        """Go on where `to_json` was called.

        Raises:
            AuditInvalid: not such a state.
        """
        try:
            return cls(
                int(value["n"]), int(value["failures"]), int(value["uncompared"]), int(value["repeated"]),
                RateTest.from_json(value["promise"]), ChangeTest.from_json(value["change"]),
                tuple(str(name) for name in value["recent"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise AuditInvalid(f"not an audit's state: {error}") from error

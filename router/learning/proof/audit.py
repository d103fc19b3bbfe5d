"""A certificate kept under test by live traffic, after every audited call.

Two tests share what is staked, and are wrong together in at most `FALSE_DEMOTION` of all lives:

- the promise: served calls disagree more often than promised, whatever they did before. A promise that is kept, at
  rates that may come and go below it, survives.
- the change: the SLM disagrees more often than when it was certified, and more often than promised. It knows how good
  the SLM was, and so hears sooner; it takes rates that come and go for a change, when they go up to the promise.

How soon a rise by ten points is noticed, in audited conversations (mean of 2,000 lives), by what the SLM disagreed
before, by the conversations it was certified on (59 without a failure, 500 with no more than pass), and by those
audited since; after the stroke what no test can do better:

    certified  audited         0 %        1 %        2 %        3 %        5 %
           59        0   424 / 299  301 / 216  229 / 164  182 / 130   124 / 88
           59      300   110 /  39  205 /  73  246 /  89  244 /  99   187 / 88
          500        0    56 /  32  124 /  59  179 /  79  188 /  83   146 / 67
          500      300    65 /  26  140 /  51  198 /  68  223 /  77   187 / 65
          500     1000    57 /  21  133 /  46  186 /  62  227 /  73   219 / 64

No test: one that is wrong in at most ε of all lives at a steady rate p within the promise, where the certificate had a
chance of P(p), needs (ln(1/ε) + ln P(p) − a KL(p₀‖p)) / KL(p₁‖p) conversations on average to notice a rise from p₀ to
p₁ after a audited ones (Wald, Ann. Math. Stat. 16 (1945): it must tell them from a steady p). The table has the largest
over all p. To reach it, a test would have to be told when the rise comes and how high it is; not knowing costs the rest
(see `betting`). Where no certificate counts, as for a forced promotion that is audited from its first call on, even the
bound is ln(1/ε) / KL(10 % ‖ 5 %) = 446 for a rise to 10 %, and 131 for one to 15 %.

59 conversations hardly tell 1 % from 5 %, so that 11 % is no news at first: a fresh promotion with a thin certificate
should be audited in full for its first 300 conversations. Later a share will do.

Nobody has to be served meanwhile: from the first disagreement on there is doubt (`is_in_doubt`), and the LLM should
answer, the SLM in its shadow, until agreements outweigh it: 45 of an SLM that never disagreed in 500, 14 of one that
did in 3 %. What was seen may decide which calls are audited, and by whom they are answered, as long as they are drawn
unseen: whoever bets on only some of the rounds, chosen before each, wins nothing from fair odds (Doob, Ann. Math. 37
(1936)), so that both tests stay valid. On samples drawn by a policy that follows what was seen: Chugg et al., "Auditing
fairness by betting", NeurIPS 2023, arXiv 2305.17570.

After a rise by ten points an SLM so answers 5 to 23 calls in all, on average, where it is audited in full, whatever it
is certified on; at a share of 2 % 220 to 530 (`docs/proof.md`), of which the first audited disagreement alone takes
1 / (2 % of 10 to 15 %) = 500 to 333.

Calls of one conversation share their mistakes, so that a burst of failures in one is one failure: only the first
audited call of a conversation counts. Calls must therefore be drawn for the audit call by call, and in full means one
call of each conversation on average: if all were drawn, hardly anything but first turns would count. A task of five
turns whose last two got worse was then never noticed in 100,000 calls; with one call of five after 2,900 (at a share of
2 % throughout, after 9,400).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import log, log1p
from typing import Any

from router.certificate import Certificate
from router.learning.proof.agreement import Outcome
from router.learning.proof.betting import RegressionTest, confidence_sequence
from router.learning.proof.standard import Standard

#: A promotion that keeps its promise and hasn't changed is demoted in at most so many of all lives, however long. For
#: the change this is proved of all SLMs that are put to the proof. Of those that pass, simulated, it is so up to a rate
#: of 4 %; at exactly 5 %, where hardly one of twenty passes, up to five times as many are.
FALSE_DEMOTION = 1e-4
#: How much doubt a new backend of the LLM casts: some 24 agreements of an SLM that never disagreed outweigh it.
_NEW_BACKEND = 2.5
#: What is suspected when an SLM disagrees: that it got so much worse.
_RISE = 0.1
#: A conversation counts once in so many audited calls, and once however long it goes on by itself; one that comes back
#: later counts again.
_REMEMBERED = 512
#: Backends of the LLM that are remembered; a provider rolls a few at a time.
_BACKENDS = 64


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
        test: of the promise, and that nothing changed.
        doubt: how much likelier the calls of late are after a rise by ten points than before it, as a logarithm, at
            least 0 (a cumulative sum: Page, Biometrika 41 (1954)). It proves nothing, and says who should answer.
        recent: the conversations that counted among the last audited calls, and nothing for those that did not.
        last: that of the last audited call.
        backends: what the LLM called its backend, newest last.
    """

    n: int
    failures: int
    uncompared: int
    repeated: int
    test: RegressionTest
    doubt: float = 0.0
    recent: tuple[str, ...] = ()
    last: str = ""
    backends: tuple[str, ...] = ()

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
        return cls(0, 0, 0, 0, RegressionTest.start(standard.limit, failures, n))

    def observe(self, conversation: str, outcome: Outcome) -> Audit:
        """Take the next audited call, in the order in which calls were served; a fraction of a millisecond."""
        if outcome is Outcome.INCOMPARABLE:
            return replace(self, uncompared=self.uncompared + 1)
        if conversation in self.recent:
            recent = self.recent if conversation == self.last else (*self.recent, "")[-_REMEMBERED:]
            return replace(self, repeated=self.repeated + 1, recent=recent, last=conversation)
        failed = outcome is Outcome.DISAGREE
        return replace(
            self,
            n=self.n + 1,
            failures=self.failures + failed,
            test=self.test.observe(failed),
            doubt=max(0.0, self.doubt + self._surprise(failed)),
            recent=(*self.recent, conversation)[-_REMEMBERED:],
            last=conversation,
        )

    def answered_by(self, backend: str) -> Audit:
        """Take what the LLM calls its backend (OpenAI's `system_fingerprint`): a new one is a reason to look.

        It proves nothing: providers change it for reasons of their own. The first tells nothing new.
        """
        if backend in self.backends:
            return self
        backends = (*self.backends, backend)[-_BACKENDS:]
        return replace(self, doubt=max(self.doubt, _NEW_BACKEND) if self.backends else self.doubt, backends=backends)

    @property
    def alarm(self) -> Alarm | None:
        """What is wrong; once an alarm, always an alarm."""
        if not self.test.rejects(FALSE_DEMOTION):
            return None
        return Alarm.BROKEN if self.test.promise.rejects(FALSE_DEMOTION) else Alarm.REGRESSED

    @property
    def is_in_doubt(self) -> bool:
        """Whether anything speaks for a rise: then the LLM should answer, and the SLM in its shadow."""
        return self.doubt > 0

    def _surprise(self, failed: bool) -> float:
        """Logarithm of how much likelier an outcome is after a rise, by what the SLM did until now."""
        change = self.test.change
        usual = min((float(change.failures) + 0.5) / (change.n + 1), change.limit)
        risen = usual + _RISE * (1 - usual)
        return log(risen / usual) if failed else log1p(-risen) - log1p(-usual)

    @property
    def disagreement(self) -> float | None:
        """Share of the conversations that disagree, over the whole life; None before the first."""
        return self.failures / self.n if self.n else None

    def interval(self, delta: float) -> tuple[float, float]:
        """Disagreement over the whole life, as the comparator sees it: within these bounds at all times, with 1 − δ."""
        low, high = confidence_sequence(self.failures, self.n, delta, expected=self.test.promise.limit)
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON value of some kilobytes; `from_json` goes on from it."""
        return {
            "n": self.n, "failures": self.failures, "uncompared": self.uncompared, "repeated": self.repeated,
            **self.test.to_json(), "doubt": self.doubt, "recent": list(self.recent),
            "last": self.last, "backends": list(self.backends),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> Audit:
        """Go on where `to_json` was called.

        Raises:
            AuditInvalid: not such a state.
        """
        try:
            recent = tuple(str(name) for name in value["recent"])
            return cls(
                int(value["n"]), int(value["failures"]), int(value["uncompared"]), int(value["repeated"]),
                RegressionTest.from_json(value), float(value.get("doubt", 0.0)),
                recent, str(value.get("last", recent[-1] if recent else "")),
                tuple(str(name) for name in value.get("backends", ())),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise AuditInvalid(f"not an audit's state: {error}") from error

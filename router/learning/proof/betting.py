"""Evidence that may be looked at after every call: what a gambler wins against a promise that is kept.

A gambler starts with 1 and bets against a hypothesis at odds that are fair, or too low, while it holds. Then its wealth
is a (super)martingale, and ever reaches 1/ε with a chance of at most ε (Ville, 1939), however often anybody looks.
Betting on a rate: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024),
arXiv 2010.09686; the confidence sequence of a mixture: Robbins, Ann. Math. Stat. 41 (1970), and Howard et al.,
arXiv 1810.08240.

Two things are added for the long lives of promotions:

- *New gamblers join all the time*, each with its share of the first one's money. A single gambler has nothing left to
  win back with after a thousand good calls; one who joins when the regression begins has. Shin, Ramdas & Rinaldo,
  "E-detectors", arXiv 2203.03532, with weights that sum to 1, so that the promise is for the whole life and not per
  call.
- *A test that nothing changed* (`ChangeTest`), which knows how good the SLM was: from 0 % to 10 % is a far louder
  alarm than 10 % where 5 % are promised. The wealth is the likelihood of a change over the largest likelihood of none:
  Wasserman, Ramdas & Balakrishnan, "Universal inference", PNAS 117 (2020), arXiv 1912.11436; for sequences of zeros
  and ones Ramdas et al., arXiv 2102.00630.

`RegressionTest` splits the money between the two and looks at what they hold together, which hears sooner than two
alarms at half the error each.

Where the evidence goes, in nats (natural logarithms of wealth), for a change after 300 observations: 9.2 for a chance
of 1e-4; 4 for not knowing when (each gambler has 1/2,000 of the money, but some 40 who join at about that time win);
1 for not knowing what to (4 alternatives); 1.5 for not knowing how good it was before; 0.4 for the splitting. The parts
below were tuned on rises by ten points from 0 to 5 %, with a little left for sudden failure.

The package `confseq`, by the authors of the first paper, has the intervals but neither of these two nor a state that
can be stored, and was last released in 2023.

Everything works on one life, or on many at once (leading dimensions), which is how the tests simulate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, xlog1py, xlogy

#: Rates that are bet on: so much of the way from the limit to 1. And the logarithms of their shares of each stake.
_ALTERNATIVES = np.array([0.05, 0.09, 0.15, 0.4])
_LOG_PARTS = np.log([0.35, 0.35, 0.2, 0.1])
#: The first gambler's share, for a model that was never as good in service as on the log.
_FIRST_SHARE = 0.4
#: Half of the other money is staked in so many observations, three quarters in three times as many.
_HORIZON = 300
#: What whoever passed is thought to disagree before any change, as a part of the limit.
_USUAL_PART = 1 / 3
#: The part of a regression test's money that is on the promise; the rest is on the change.
_PROMISE_PART = 1 / 3
_HALVINGS = 60  # of [0, 1]: to the last bit of a double


def confidence_sequence(
    failures: ArrayLike, n: ArrayLike, delta: float, expected: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rate is within these bounds at every n at once, with confidence 1 − δ.

    A rate p is out when somebody who bet against it from the start would hold 1/δ. Where exact bounds for one look
    certify 5 % at 95 % from 59 calls without a failure, these take 81.

    Args:
        failures: among the first n, any shape.
        n: observations so far.
        delta: chance that the rate is ever outside, in (0, 1).
        expected: about how large the rate is thought to be, in (0, 1); a wrong guess costs width, never validity.

    Returns:
        Lower and upper bounds in the broadcast shape, in [0, 1].
    """
    k, trials = np.broadcast_arrays(np.asarray(failures, dtype=np.float64), np.asarray(n, dtype=np.float64))
    least = _log_mixture(k, trials, expected) + np.log(delta)  # a likelihood below this is out

    def edge(outside: float) -> NDArray[np.float64]:
        out, within = np.full(k.shape, outside), k / np.maximum(trials, 1)
        for _ in range(_HALVINGS):
            middle = (out + within) / 2
            beaten = xlogy(k, middle) + xlog1py(trials - k, -middle) <= least
            out, within = np.where(beaten, middle, out), np.where(beaten, within, middle)
        return out

    return edge(0.0), edge(1.0)


@dataclass(frozen=True, slots=True, eq=False)
class RateTest:
    """Whether something happens more often than a limit: each time with a chance above it, given all that came before.

    Attributes:
        limit: in (0, 1).
        n: observations so far.
        stakes: (..., 4) logarithms of the money that is on each alternative.
        peak: (...) logarithm of the largest wealth so far, at least 0.
    """

    limit: float
    n: int
    stakes: NDArray[np.float64]
    peak: NDArray[np.float64]

    @classmethod
    def start(cls, limit: float, lives: tuple[int, ...] = ()) -> RateTest:
        """Begin, with nothing observed.

        Raises:
            ValueError: a limit outside (0, 1).
        """
        if not 0 < limit < 1:
            raise ValueError(f"limit {limit} must lie between 0 and 1")
        return cls(limit, 0, np.broadcast_to(_log_stakes(0), (*lives, len(_ALTERNATIVES))), np.zeros(lives))

    @property
    def wealth(self) -> NDArray[np.float64]:
        """(...) logarithm of what is held today by all who have joined."""
        return _log_sum(self.stakes)

    def observe(self, happened: ArrayLike) -> RateTest:
        """Take the next observation, of one life or of as many as it was begun with."""
        rates = _rates(self.limit)
        yes, no = np.log(rates / self.limit), np.log((1 - rates) / (1 - self.limit))
        stakes = self.stakes + np.where(np.asarray(happened, dtype=bool)[..., None], yes, no)
        stakes = np.logaddexp(stakes, _log_stakes(self.n + 1))
        return RateTest(self.limit, self.n + 1, stakes, np.maximum(self.peak, _log_sum(stakes)))

    def rejects(self, false_alarm: float) -> NDArray[np.bool_]:
        """Whether the limit was ever seen to be exceeded; wrong with a chance of at most `false_alarm` in a life."""
        return np.asarray(self.peak >= -np.log(false_alarm))

    def to_json(self) -> dict[str, Any]:
        """The state of one life as a JSON value; `from_json` reads it."""
        return {"limit": self.limit, "n": self.n, "stakes": self.stakes.tolist(), "peak": float(self.peak)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RateTest:
        """Go on where `to_json` was called.

        Raises:
            KeyError, TypeError, ValueError: not such a state.
        """
        return cls(
            float(value["limit"]), int(value["n"]), _stakes(value["stakes"]), np.array(float(value["peak"]))
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ChangeTest:
    """Whether a rate, whatever it was, has changed to one above a limit; before, observations are exchangeable.

    Attributes:
        limit: in (0, 1).
        start_n: observations of the past that it began with.
        n: observations so far, with the past.
        failures: (...) how often it happened, with the past.
        stakes: (..., 4) logarithms of the likelihoods of a change to each alternative, times the money on it.
    """

    limit: float
    start_n: int
    n: int
    failures: NDArray[np.float64]
    stakes: NDArray[np.float64]

    @classmethod
    def start(cls, limit: float, failures: ArrayLike, n: int, lives: tuple[int, ...] = ()) -> ChangeTest:
        """Begin with a past: n observations of which some failed.

        Raises:
            ValueError: a limit outside (0, 1), or more failures than observations.
        """
        past = np.broadcast_to(np.asarray(failures, dtype=np.float64), lives)
        if not 0 < limit < 1 or not ((past >= 0) & (past <= n)).all():
            raise ValueError(f"limit {limit} must lie between 0 and 1; {failures!r} failures in {n} observations")
        unchanged = _log_mixture(past, n, _USUAL_PART * limit)
        return cls(limit, n, n, past, _log_stakes(0) + unchanged[..., None])

    @property
    def wealth(self) -> NDArray[np.float64]:
        """(...) logarithm of the likelihood of a change, over the largest one of none."""
        likeliest = np.minimum(self.failures / max(self.n, 1), self.limit)
        unchanged = xlogy(self.failures, likeliest) + xlog1py(self.n - self.failures, -likeliest)
        return np.asarray(_log_sum(self.stakes) - unchanged)

    def observe(self, happened: ArrayLike) -> ChangeTest:
        """Take the next observation, of one life or of as many as it was begun with."""
        rates = _rates(self.limit)
        yes = np.asarray(happened, dtype=bool)
        stakes = self.stakes + np.where(yes[..., None], np.log(rates), np.log1p(-rates))
        failures, n = self.failures + yes, self.n + 1
        joining = _log_stakes(n - self.start_n) + _log_mixture(failures, n, _USUAL_PART * self.limit)[..., None]
        return ChangeTest(self.limit, self.start_n, n, failures, np.logaddexp(stakes, joining))

    def to_json(self) -> dict[str, Any]:
        """The state of one life as a JSON value; `from_json` reads it."""
        counts = {"limit": self.limit, "start_n": self.start_n, "n": self.n, "failures": int(self.failures)}
        return {**counts, "stakes": self.stakes.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ChangeTest:
        """Go on where `to_json` was called.

        Raises:
            KeyError, TypeError, ValueError: not such a state.
        """
        return cls(
            float(value["limit"]), int(value["start_n"]), int(value["n"]), np.array(float(value["failures"])),
            _stakes(value["stakes"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RegressionTest:
    """Whether a rate is above its limit, or has changed to one that is.

    Either test holds what a gambler may hold while the rate is constant and within its limit; so does a fixed part of
    both, which reaches 1/ε with a chance of at most ε.

    Attributes:
        promise, change: the two tests.
        peak: (...) logarithm of the largest wealth so far, at least 0.
    """

    promise: RateTest
    change: ChangeTest
    peak: NDArray[np.float64]

    @classmethod
    def start(cls, limit: float, failures: ArrayLike, n: int, lives: tuple[int, ...] = ()) -> RegressionTest:
        """Begin with a past: n observations of which some failed.

        Raises:
            ValueError: a limit outside (0, 1), or more failures than observations.
        """
        return cls(RateTest.start(limit, lives), ChangeTest.start(limit, failures, n, lives), np.zeros(lives))

    def observe(self, happened: ArrayLike) -> RegressionTest:
        """Take the next observation, of one life or of as many as it was begun with."""
        promise, change = self.promise.observe(happened), self.change.observe(happened)
        wealth = np.logaddexp(np.log(_PROMISE_PART) + promise.wealth, np.log1p(-_PROMISE_PART) + change.wealth)
        return RegressionTest(promise, change, np.maximum(self.peak, wealth))

    def rejects(self, false_alarm: float) -> NDArray[np.bool_]:
        """Whether there was ever an alarm; wrong with a chance of at most `false_alarm` in a life.

        That is proved of a constant rate within the limit, over all the pasts that it may have had. Of rates that come
        and go below the limit it is proved for `promise` alone.
        """
        return np.asarray(self.peak >= -np.log(false_alarm))

    def to_json(self) -> dict[str, Any]:
        """The state of one life as a JSON value; `from_json` reads it."""
        return {"promise": self.promise.to_json(), "change": self.change.to_json(), "peak": float(self.peak)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RegressionTest:
        """Go on where `to_json` was called.

        A state without a peak is from when either test had its own alarm, at half the error. The bets go on by today's
        rates and stakes; those who join today bring less than had yet to join then.

        Raises:
            KeyError, TypeError, ValueError: not such a state.
        """
        promise, change = RateTest.from_json(value["promise"]), ChangeTest.from_json(value["change"])
        if "peak" in value:
            return cls(promise, change, np.array(float(value["peak"])))
        higher = max(float(promise.peak), float(value["change"]["peak"]))
        return cls(promise, change, np.array(max(higher - np.log(2), 0.0)))


def _rates(limit: float) -> NDArray[np.float64]:
    """(4,) the alternatives above a limit."""
    return limit + (1 - limit) * _ALTERNATIVES


def _log_stakes(joined: int) -> NDArray[np.float64]:
    """(4,) logarithms of what the gambler who joins after so many observations puts on each; all of them sum to 1."""
    share = _FIRST_SHARE
    if joined:
        share = (1 - _FIRST_SHARE) * _HORIZON / ((_HORIZON + joined - 1) * (_HORIZON + joined))
    return np.asarray(_LOG_PARTS + np.log(share))


def _log_sum(stakes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4) to (...): the logarithm of what they come to."""
    most = stakes.max(axis=-1)
    return np.asarray(most + np.log(np.exp(stakes - most[..., None]).sum(axis=-1)))


def _log_mixture(failures: ArrayLike, n: ArrayLike, expected: float) -> NDArray[np.float64]:
    """Logarithm of the likelihood of a sequence, on average over rates of a Beta(½, ½/expected) distribution."""
    a, b = 0.5, 0.5 / expected
    mixture: NDArray[np.float64] = betaln(np.asarray(failures) + a, np.asarray(n) - failures + b) - betaln(a, b)
    return mixture


def _stakes(value: object) -> NDArray[np.float64]:
    stakes = np.asarray(value, dtype=np.float64)
    if stakes.shape != _ALTERNATIVES.shape or not np.isfinite(stakes).all():
        raise ValueError(f"stakes of shape {stakes.shape}, or not finite")
    return stakes

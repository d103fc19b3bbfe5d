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

#: Rates that are bet on: so much of the way from the limit to 1.
_ALTERNATIVES = np.array([0.05, 0.1, 0.2, 0.45])
#: The first gambler's share, for a model that was never as good in service as on the log.
_FIRST_SHARE = 0.25
#: Half of the other money is staked in so many observations, three quarters in three times as many.
_HORIZON = 300
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
        return cls(limit, 0, np.full((*lives, len(_ALTERNATIVES)), _log_stake(0)), np.zeros(lives))

    def observe(self, happened: ArrayLike) -> RateTest:
        """Take the next observation, of one life or of as many as it was begun with."""
        rates = _rates(self.limit)
        yes, no = np.log(rates / self.limit), np.log((1 - rates) / (1 - self.limit))
        stakes = self.stakes + np.where(np.asarray(happened, dtype=bool)[..., None], yes, no)
        peak = np.maximum(self.peak, np.logaddexp.reduce(stakes, axis=-1))
        return RateTest(self.limit, self.n + 1, np.logaddexp(stakes, _log_stake(self.n + 1)), peak)

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
        peak: (...) logarithm of the largest wealth so far, at least 0.
    """

    limit: float
    start_n: int
    n: int
    failures: NDArray[np.float64]
    stakes: NDArray[np.float64]
    peak: NDArray[np.float64]

    @classmethod
    def start(cls, limit: float, failures: ArrayLike, n: int, lives: tuple[int, ...] = ()) -> ChangeTest:
        """Begin with a past: n observations of which some failed.

        Raises:
            ValueError: a limit outside (0, 1), or more failures than observations.
        """
        past = np.broadcast_to(np.asarray(failures, dtype=np.float64), lives)
        if not 0 < limit < 1 or not ((past >= 0) & (past <= n)).all():
            raise ValueError(f"limit {limit} must lie between 0 and 1; {failures!r} failures in {n} observations")
        stake = _log_stake(0) + _log_mixture(past, n, limit)
        return cls(limit, n, n, past, np.repeat(stake[..., None], len(_ALTERNATIVES), axis=-1), np.zeros(lives))

    def observe(self, happened: ArrayLike) -> ChangeTest:
        """Take the next observation, of one life or of as many as it was begun with."""
        rates = _rates(self.limit)
        yes = np.asarray(happened, dtype=bool)
        stakes = self.stakes + np.where(yes[..., None], np.log(rates), np.log1p(-rates))
        failures, n = self.failures + yes, self.n + 1
        likeliest = np.minimum(failures / n, self.limit)
        unchanged = xlogy(failures, likeliest) + xlog1py(n - failures, -likeliest)
        peak = np.maximum(self.peak, np.logaddexp.reduce(stakes, axis=-1) - unchanged)
        joining = _log_stake(n - self.start_n) + _log_mixture(failures, n, self.limit)
        return ChangeTest(self.limit, self.start_n, n, failures, np.logaddexp(stakes, joining[..., None]), peak)

    def rejects(self, false_alarm: float) -> NDArray[np.bool_]:
        """Whether a change was ever seen; wrong with a chance of at most `false_alarm` in a life without one."""
        return np.asarray(self.peak >= -np.log(false_alarm))

    def to_json(self) -> dict[str, Any]:
        """The state of one life as a JSON value; `from_json` reads it."""
        counts = {"limit": self.limit, "start_n": self.start_n, "n": self.n, "failures": int(self.failures)}
        return {**counts, "stakes": self.stakes.tolist(), "peak": float(self.peak)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ChangeTest:
        """Go on where `to_json` was called.

        Raises:
            KeyError, TypeError, ValueError: not such a state.
        """
        return cls(
            float(value["limit"]), int(value["start_n"]), int(value["n"]), np.array(float(value["failures"])),
            _stakes(value["stakes"]), np.array(float(value["peak"])),
        )  # fmt: skip


def _rates(limit: float) -> NDArray[np.float64]:
    """(4,) the alternatives above a limit."""
    return limit + (1 - limit) * _ALTERNATIVES


def _log_stake(joined: int) -> float:
    """Logarithm of what the gambler who joins after so many observations puts on each alternative; they sum to 1."""
    share = _FIRST_SHARE
    if joined:
        share = (1 - _FIRST_SHARE) * _HORIZON / ((_HORIZON + joined - 1) * (_HORIZON + joined))
    return float(np.log(share / len(_ALTERNATIVES)))


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

"""How sure an SLM must be before it serves: the laxest threshold that the calibration split proves, by fixed sequence.

Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then Test", arXiv 2110.01052, section 3.2 and algorithm 1: thresholds
are tested from strict to lax until one fails, from several starting points, each with its share of δ: the strictest
threshold serves so few calls that one unlucky failure would end a single sequence. Disagreement need not grow as the
threshold falls for the promise to hold.

What is proved here holds by itself: the served calls disagree more often than α with a chance of at most δ. Yet the
laxest threshold that just passes here passes again on the certification split only every other time: it was chosen for
its luck. So among those that pass, the laxest is taken whose certificate is *likely* to pass as well. That costs
coverage, never validity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard

#: The strictest threshold leaves this many times the calls that a proof without failures needs, so that one may fail.
_HEADROOM = 1.6
#: A starting point for every so many calls, up to three: a third of δ is too dear for a small sample.
_CALLS_PER_START = 300
#: So much of the best chance is as good: coverage is worth more than the last percent of it.
_NEARLY = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and what the calibration split says about it.

    Attributes:
        threshold: calls at least this sure are served; None for all.
        n: calibration calls served.
        failures: how many of them failed.
        coverage: share of calibration calls served.
        likely: estimated chance that the certification split certifies it.
    """

    threshold: float | None
    n: int
    failures: int
    coverage: float
    likely: float


def threshold_grid(confidences: ArrayLike, calls: int, standard: Standard, steps: int = 60) -> NDArray[np.float64]:
    """Thresholds worth testing, strict to lax, at even steps of coverage; the last serves all.

    Args:
        confidences: (N,) of other calls than those that will be tested (the training split's, or unlabelled traffic):
            a grid laid through the tested calls themselves is chosen by them.
        calls: how many will be tested; stricter thresholds than these can prove are left out.
        standard: of proof.
        steps: how many thresholds, fewer where confidences are tied.

    Returns:
        (T,) falling, the last -inf.
    """
    known = np.asarray(confidences, dtype=np.float64)
    known = known[~np.isnan(known)]
    needed = standard.needed()
    least = 1.0 if needed is None else min(1.0, _HEADROOM * needed / max(calls, 1))
    if not len(known) or least >= 1:
        return np.array([-np.inf])
    inner = np.quantile(known, 1 - np.linspace(least, 1, steps)[:-1], method="lower")
    return np.concatenate((np.unique(inner)[::-1], [-np.inf]))


def choose_threshold(
    calibration: Evidence,
    grid: NDArray[np.float64],
    standard: Standard,
    certification_calls: int,
    likely: float = 0.8,
) -> Choice | None:
    """Choose on the calibration split.

    Args:
        calibration: one call of each conversation counts.
        grid: (T,) falling, fixed without a look at `calibration`.
        standard: of proof.
        certification_calls: conversations in the certification split.
        likely: how likely the certificate should be; when no threshold is, the likeliest is taken.

    Returns:
        None when no threshold passes.
    """
    sample = calibration.one_per_conversation()
    if not len(sample) or not len(grid):
        return None
    n, failures = sample.tally(grid)
    starts = min(3, max(1, len(sample) // _CALLS_PER_START))
    passed = _fixed_sequence(n, failures, standard, starts)
    if not passed.any():
        return None
    chances = np.where(passed, _chances(n, failures, len(sample), standard, certification_calls), -1.0)
    fit = np.flatnonzero(chances >= likely)
    best = int(fit[-1]) if len(fit) else int(chances.argmax())
    return _choice(grid, best, n, failures, chances, len(sample))


def likeliest_threshold(calibration: Evidence, standard: Standard, certification_calls: int) -> Choice:
    """What to try where the calibration split is too small to prove any threshold, or none passes.

    Nothing is proved here: that is the certificate's part, on the other split, whatever was chosen. So the threshold
    may be laid through the calibration calls themselves.

    Returns:
        The laxest of those whose certificate is nearly as likely to pass as the likeliest.
    """
    sample = calibration.one_per_conversation()
    known = sample.confidences[~np.isnan(sample.confidences)]
    grid = np.append(np.unique(known)[:0:-1], -np.inf)  # the least of them serves what -inf serves
    n, failures = sample.tally(grid)
    chances = _chances(n, failures, len(sample), standard, certification_calls)
    best = int(np.flatnonzero(chances >= _NEARLY * chances.max())[-1])
    return _choice(grid, best, n, failures, chances, len(sample))


def _chances(
    n: NDArray[np.int64], failures: NDArray[np.int64], calls: int, standard: Standard, certification_calls: int
) -> NDArray[np.float64]:
    """(T,) how likely the certification split certifies what served n of so many calibration calls, some in vain."""
    expected = np.rint(n / max(calls, 1) * certification_calls).astype(np.int64)
    chances: NDArray[np.float64] = bdtr(standard.allowed(expected), expected, (failures + 0.5) / (n + 1))
    return np.nan_to_num(chances, nan=0.0)  # `bdtr` of -1 failures


def _choice(
    grid: NDArray[np.float64],
    best: int,
    n: NDArray[np.int64],
    failures: NDArray[np.int64],
    chances: NDArray[np.float64],
    calls: int,
) -> Choice:
    threshold = float(grid[best])
    return Choice(
        threshold if np.isfinite(threshold) else None,
        int(n[best]), int(failures[best]), float(n[best] / max(calls, 1)), float(chances[best]),
    )  # fmt: skip


def _fixed_sequence(
    n: NDArray[np.int64], failures: NDArray[np.int64], standard: Standard, starts: int
) -> NDArray[np.bool_]:
    """(T,) which thresholds are proved.

    Every start brings its share of δ; a threshold that is proved hands on what it was tested with, and one that isn't
    takes it away (the fallback procedure: Wiens, Pharmaceutical Statistics 2 (2003)).
    """
    first = set(np.linspace(0, len(n), starts, endpoint=False).astype(int).tolist())
    shares = np.arange(1, len(first) + 1) / len(first)
    holds = [standard.bound(failures, n, share=share) <= standard.alpha for share in shares]
    proved = np.zeros(len(n), dtype=bool)
    level = 0
    for place in range(len(n)):
        level += place in first
        proved[place] = level > 0 and holds[level - 1][place]
        level *= bool(proved[place])
    return proved

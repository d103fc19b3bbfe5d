"""Exact confidence bounds on a rate: no normal approximation, right at any sample size.

Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26
(1934). They hold for one look at the evidence; `betting.py` has those that hold at every look.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv  # scipy.stats would cost half a second of imports


def upper_bound(failures: ArrayLike, n: ArrayLike, delta: float) -> NDArray[np.float64]:
    """The rate is below this with confidence 1 − δ.

    Args:
        failures: how often it happened, in [0, n]; any shape.
        n: independent trials; 0 gives 1, for nothing is known.
        delta: chance of being wrong, in (0, 1), on this side alone.

    Returns:
        In the broadcast shape, in [0, 1].
    """
    k, trials = np.broadcast_arrays(np.asarray(failures, dtype=np.float64), np.asarray(n, dtype=np.float64))
    return np.where(k >= trials, 1.0, betaincinv(k + 1, np.maximum(trials - k, 1), 1 - delta))


def lower_bound(failures: ArrayLike, n: ArrayLike, delta: float) -> NDArray[np.float64]:
    """The rate is above this with confidence 1 − δ; arguments as `upper_bound`."""
    return 1.0 - upper_bound(np.asarray(n) - np.asarray(failures), n, delta)


def interval(failures: int, n: int, delta: float) -> tuple[float, float]:
    """Both sides, each with half of δ."""
    return float(lower_bound(failures, n, delta / 2)), float(upper_bound(failures, n, delta / 2))

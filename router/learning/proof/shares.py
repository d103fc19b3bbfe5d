"""A share of weighted calls with its confidence interval, where calls come in conversations.

Calls of one conversation resemble each other, so a thousand calls of ten conversations say little more than ten do.
The interval is the exact one of `bounds.py` at the *effective* number of calls: the one at which independent calls
would vary as much as the share does between conversations. Korn & Graubard, "Confidence intervals for proportions with
small expected number of positive counts estimated from survey data", Survey Methodology 24 (1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.learning.proof.bounds import lower_bound, upper_bound


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in [0, 1], and its interval.

    Attributes:
        low, high: both 0 and 1 apart where there is nothing to tell it from.
    """

    value: float
    low: float
    high: float


def share(parts: NDArray[np.float64], wholes: NDArray[np.float64], delta: float) -> Share:
    """The share Σ parts / Σ wholes over a traffic of which these conversations are a sample.

    Args:
        parts: (N,), what of each conversation counts, in [0, whole]: calls, tokens, money.
        wholes: (N,), all of each conversation.
        delta: one minus the confidence, half of it on each side.
    """
    whole = float(wholes.sum())
    if whole <= 0:
        return Share(0.0, 0.0, 1.0)
    value = min(float(parts.sum()) / whole, 1.0)
    effective = _effective(parts, wholes, value, whole)
    hits = value * effective
    return Share(
        value,
        min(float(lower_bound(hits, effective, delta / 2)), value),
        max(float(upper_bound(hits, effective, delta / 2)), value),
    )


def _effective(parts: NDArray[np.float64], wholes: NDArray[np.float64], value: float, whole: float) -> float:
    """How many independent calls say as much as these conversations do; never more than there are of them."""
    n = len(wholes)
    most = whole**2 / float((wholes**2).sum())  # Kish: what conversations of unequal size are worth
    if n < 2:
        return most
    variance = n / (n - 1) * float(((parts - value * wholes) ** 2).sum()) / whole**2  # linearised, of a ratio
    if variance <= 0:  # every conversation has the same share
        return most
    return min(value * (1 - value) / variance, float(n)) if 0 < value < 1 else most

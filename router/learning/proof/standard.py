"""The standard of proof: which risk, at which confidence, by which comparator with which error of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.certificate import JudgeError
from router.learning.proof.betting import confidence_sequence
from router.learning.proof.bounds import lower_bound, upper_bound
from router.learning.proof.judge import corrected_lower, corrected_upper, most_rejected

#: Where a comparator's own error forbids a proof at any number of calls, there is no number to name.
_MOST_CALLS = 1_000_000


@dataclass(frozen=True, slots=True)
class Standard:
    """What has to be proved.

    Attributes:
        alpha: the risk: served calls may disagree this often, in (0, 1).
        delta: one minus the confidence: how often a certificate may be wrong, in (0, 1).
        judge: error of the comparator where that was measured; its verdicts are then corrected for it, half of δ for
            them and half for the judge. It must be as good on these calls as on those that its error was measured on.
        anytime: the evidence grows, and is looked at again and again until it suffices.
    """

    alpha: float
    delta: float
    judge: JudgeError | None = None
    anytime: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.delta < 1):
            raise ValueError(f"risk {self.alpha} and 1 − confidence {self.delta} must lie between 0 and 1")

    def for_attempt(self, attempt: int) -> Standard:
        """The standard of the k-th model or threshold that is tried on one task, counted from 1.

        Whoever tries until one passes has a bad one pass in the end. So the first spends δ, and the k-th δ/(k(k − 1)):
        all together, however many there are, a bad one passes with a chance of at most 2δ.

        Raises:
            ValueError: below 1.
        """
        if attempt < 1:
            raise ValueError(f"attempt {attempt}: they are counted from 1")
        return self if attempt == 1 else replace(self, delta=self.delta / (attempt * (attempt - 1)))

    def bound(self, failures: ArrayLike, n: ArrayLike, share: float = 1.0) -> NDArray[np.float64]:
        """The upper confidence bound on disagreement.

        Args:
            failures: among `n` independent calls; any shape.
            n: how many.
            share: part of δ that this bound may use.
        """
        delta = self.delta * share
        if self.judge is None:
            return self._upper(failures, n, delta)
        return corrected_upper(self._upper(failures, n, delta / 2), self.judge, delta / 2)

    def floor(self, failures: ArrayLike, n: ArrayLike, share: float = 1.0) -> NDArray[np.float64]:
        """The lower confidence bound on disagreement, for one look; arguments as `bound`."""
        delta = self.delta * share
        if self.judge is None:
            return lower_bound(failures, n, delta)
        return corrected_lower(lower_bound(failures, n, delta / 2), self.judge, delta / 2)

    @property
    def limit(self) -> float:
        """The share of served calls that the comparator may reject while the promise is kept: what an audit tests."""
        return self.alpha if self.judge is None else most_rejected(self.alpha, self.judge, self.delta)

    def allowed(self, n: ArrayLike) -> NDArray[np.int64]:
        """How many of `n` calls, of any shape, may fail and still prove it; -1 where not even none may."""
        trials = np.asarray(n, dtype=np.int64)
        low, high = np.full_like(trials, -1), trials + 1  # proves (or is -1); does not
        while (high - low > 1).any():
            middle = (low + high) // 2
            proves = (middle < 0) | (self.bound(np.maximum(middle, 0), trials) <= self.alpha)
            low, high = np.where(proves, middle, low), np.where(proves, high, middle)
        return low

    def needed(self, failures: int = 0) -> int | None:
        """How many calls prove it when so many fail; None when no million does."""
        low, high = failures, failures + 1
        while not self.bound(failures, high) <= self.alpha:
            low, high = high, 2 * high
            if high > _MOST_CALLS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.bound(failures, middle) <= self.alpha else (middle, high)
        return high

    def _upper(self, failures: ArrayLike, n: ArrayLike, delta: float) -> NDArray[np.float64]:
        if self.anytime:
            return confidence_sequence(failures, n, delta, expected=self.alpha)[1]
        return upper_bound(failures, n, delta)

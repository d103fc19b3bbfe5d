"""What a comparator's own error takes from a bound, and how it is measured.

A judge is wrong both ways. With θ the true rate of disagreement, β the share of true disagreements that it passes and φ
the share of true agreements that it rejects, it rejects a share q = θ(1 − β) + (1 − θ)φ; so θ = (q − φ)/(1 − β − φ):
Rogan & Gladen, Am. J. Epidemiology 107 (1978); for LLM judges Lee et al., arXiv 2511.21140 (2025).
Here every one of q, β, φ enters at the end of its own exact interval that makes θ largest, so that the bound on θ holds
with confidence 1 − δ at any sample size: no plug-in, no normal approximation.

In an upper bound φ is 0, whatever was measured. How many true agreements a comparator rejects depends on how they are
worded: an SLM that repeats the LLM's words is never rejected, and has no false alarms to its credit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.certificate import JudgeError
from router.contract import Answer
from router.learning.proof.agreement import Comparator, Outcome
from router.learning.proof.bounds import lower_bound, upper_bound
from router.learning.proof.known_pairs import HARMLESS, KnownPair

#: Fewer pairs of one kind say nothing about it.
LEAST_PAIRS = 30
#: The error of a comparator that nobody could measure: no bound is corrected for it, and nothing is proved by it.
UNMEASURED = JudgeError(disagreements=0, passed=0, agreements=0, rejected=0)


def measure(comparator: Comparator, pairs: Iterable[tuple[Answer, Answer, bool]]) -> JudgeError:
    """Measure a comparator's error.

    Args:
        comparator: a judge, or closeness of embeddings.
        pairs: reference, answer, and whether they truly agree, as people or a stronger judge said; pairs of the task
            itself, for a judge that is good on one task may be blind on another. What it can't compare is left out.
    """
    counts = {(truth, said): 0 for truth in (True, False) for said in (Outcome.AGREE, Outcome.DISAGREE)}
    for reference, answer, agree in pairs:
        outcome = comparator.compare(reference, answer).outcome
        if outcome is not Outcome.INCOMPARABLE:
            counts[bool(agree), outcome] += 1
    return JudgeError(
        disagreements=counts[False, Outcome.AGREE] + counts[False, Outcome.DISAGREE],
        passed=counts[False, Outcome.AGREE],
        agreements=counts[True, Outcome.AGREE] + counts[True, Outcome.DISAGREE],
        rejected=counts[True, Outcome.DISAGREE],
    )


def measure_worst(
    comparator: Comparator,
    pairs: Sequence[KnownPair],
    delta: float,
    each: Callable[[Callable[[KnownPair], Outcome], Sequence[KnownPair]], Iterable[Outcome]] = map,
) -> JudgeError:
    """Measure a comparator's error on pairs of known truth: of their kinds of disagreement the one it is worst at.

    Nobody knows which kind an SLM's mistakes will be of. The largest of the kinds' upper bounds at δ is one on whatever
    mixture of them.

    Args:
        delta: at which the kinds are told apart.
        each: a parallel `map`, for comparators that wait.

    Returns:
        `UNMEASURED` with under 30 pairs of answers to other requests, or of those that agree. Of the other kinds those
        that are seldomer are left out: the task has hardly anything of theirs.
    """
    outcomes = each(lambda pair: comparator.compare(pair.reference, pair.answer).outcome, pairs)
    said: dict[str, list[Outcome]] = defaultdict(list)
    for pair, outcome in zip(pairs, outcomes, strict=True):
        if outcome is not Outcome.INCOMPARABLE:
            said[pair.kind].append(outcome)
    agreements = said.pop(HARMLESS, [])
    if min(len(agreements), len(said["other"])) < LEAST_PAIRS:
        return UNMEASURED
    worst = max(
        (kind for kind in said.values() if len(kind) >= LEAST_PAIRS),
        key=lambda kind: float(upper_bound(kind.count(Outcome.AGREE), len(kind), delta)),
    )
    return JudgeError(
        disagreements=len(worst),
        passed=worst.count(Outcome.AGREE),
        agreements=len(agreements),
        rejected=agreements.count(Outcome.DISAGREE),
    )


def corrected_upper(rejected_share: ArrayLike, error: JudgeError, delta: float) -> NDArray[np.float64]:
    """The upper end of true disagreement, from an upper bound on the share that the judge rejects.

    Args:
        rejected_share: upper bound on q, of any shape.
        error: of the judge. Without true disagreements among its pairs nothing is known, and the bound is 1.
        delta: chance that the judge's errors are outside what is assumed here; it adds to that of `rejected_share`.

    Returns:
        In the same shape, in [0, 1].
    """
    passes = float(upper_bound(error.passed, error.disagreements, delta / 2))
    rejects = float(lower_bound(error.rejected, error.agreements, delta / 2))
    credited = 0.0 if passes + rejects < 1 else rejects  # a coin stays a coin
    return _true_rate(np.asarray(rejected_share, dtype=np.float64), passes, credited, unknown=1.0)


def corrected_lower(rejected_share: ArrayLike, error: JudgeError, delta: float) -> NDArray[np.float64]:
    """The lower end of true disagreement, from a lower bound on q; arguments as `corrected_upper`."""
    passes = float(lower_bound(error.passed, error.disagreements, delta / 2))
    rejects = float(upper_bound(error.rejected, error.agreements, delta / 2))
    return _true_rate(np.asarray(rejected_share, dtype=np.float64), passes, rejects, unknown=0.0)


def most_rejected(alpha: float, error: JudgeError, delta: float) -> float:
    """The largest share that the judge rejects while the true rate of disagreement is at most α, with confidence 1 − δ.

    An audit by this judge that finds more has found a broken promise, and not the judge's own false alarms.
    """
    passes = float(lower_bound(error.passed, error.disagreements, delta / 2))
    rejects = float(upper_bound(error.rejected, error.agreements, delta / 2))
    return max(rejects, alpha * (1 - passes) + (1 - alpha) * rejects)


def _true_rate(q: NDArray[np.float64], passes: float, rejects: float, unknown: float) -> NDArray[np.float64]:
    """θ from q, β and φ; a judge that is no better than a coin says nothing."""
    sees = 1.0 - passes - rejects
    return np.clip((q - rejects) / sees, 0.0, 1.0) if sees > 0 else np.full_like(q, unknown)

"""The LLM's agreement with itself: the ceiling over anybody's agreement with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.certificate import SelfAgreement
from router.contract import Answer
from router.learning.proof.agreement import Comparator, Outcome


def self_agreement(repeats: Iterable[Sequence[Answer]], comparator: Comparator) -> SelfAgreement:
    """Compare the first two answers to each repeated request.

    Further answers to the same request are left out: requests are independent of each other, their repeats are not. At
    temperature 0, or from a response cache, an LLM agrees with itself more often than it would if asked anew.

    Args:
        repeats: the answers to one request, oldest first, for each request of a conversation of its own; single answers
            are passed over, and pairs that can't be compared.
        comparator: the task's.
    """
    pairs = disagreements = 0
    for answers in repeats:
        if len(answers) < 2:
            continue
        outcomes = {
            comparator.compare(answers[0], answers[1]).outcome,
            comparator.compare(answers[1], answers[0]).outcome,
        }
        if Outcome.INCOMPARABLE not in outcomes:
            pairs += 1
            disagreements += Outcome.DISAGREE in outcomes
    return SelfAgreement(pairs=pairs, disagreements=disagreements)

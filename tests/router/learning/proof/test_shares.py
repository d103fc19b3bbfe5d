"""Shares of calls in conversations: the intervals hold what they promise, and know that such calls are alike."""

from __future__ import annotations

import numpy as np
import pytest

from router.learning.proof.bounds import interval
from router.learning.proof.shares import Share, share


def test_independent_calls_get_the_exact_interval() -> None:
    hits = np.array([1.0] * 30 + [0.0] * 70)
    found = share(hits, np.ones(100), 0.05)
    exact = interval(30, 100, 0.05)
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx(exact, abs=0.003)


def test_calls_of_one_conversation_count_as_little_as_they_say() -> None:
    """A thousand calls in ten conversations that are all of a kind say what ten calls do."""
    found = share(np.array([100.0] * 3 + [0.0] * 7), np.full(10, 100.0), 0.05)
    low, high = interval(3, 10, 0.05)
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


def test_nothing_seen_is_not_taken_for_nothing_there() -> None:
    assert share(np.zeros(50), np.ones(50), 0.05).high == pytest.approx(interval(0, 50, 0.05)[1])
    assert share(np.ones(50), np.ones(50), 0.05).low == pytest.approx(interval(50, 50, 0.05)[0])
    assert share(np.zeros(0), np.zeros(0), 0.05) == Share(0.0, 0.0, 1.0)
    single = share(np.array([3.0]), np.array([7.0]), 0.05)
    assert single.low < 0.02
    assert single.high > 0.98


@pytest.mark.parametrize("true_share", [0.02, 0.3, 0.9])
def test_the_interval_holds_the_truth_as_often_as_it_promises(true_share: float) -> None:
    """1,000 logs of 200 conversations, of unequal length and each leaning one way."""
    random = np.random.default_rng(7)
    held = 0
    for _ in range(1000):
        wholes = random.geometric(0.3, 200).astype(np.float64)
        leanings = random.beta(2 * true_share, 2 * (1 - true_share), 200)
        found = share(random.binomial(wholes.astype(int), leanings).astype(np.float64), wholes, 0.05)
        held += found.low <= true_share <= found.high
    assert held >= 940

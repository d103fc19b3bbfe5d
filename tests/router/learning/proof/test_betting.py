"""Evidence that may be looked at after every call. What can be computed over all sequences is, instead of sampled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from router.learning.proof.betting import ChangeTest, RateTest, RegressionTest, _log_stakes, confidence_sequence
from router.learning.proof.bounds import lower_bound, upper_bound

LENGTH = 12
SEQUENCES = np.array(list(itertools.product([False, True], repeat=LENGTH)))  # (4096, 12)
TIMES = st.integers(1, LENGTH)


def chances(rate: float) -> np.ndarray:
    """(4096,) of each sequence, when each outcome is 1 with this chance."""
    return np.where(SEQUENCES, rate, 1 - rate).prod(axis=1)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3])
def test_nobody_wins_on_average_against_a_limit_that_is_kept(limit: float) -> None:
    test = RateTest.start(limit, (len(SEQUENCES),))
    for time in range(LENGTH):
        test = test.observe(SEQUENCES[:, time])
        wealth = np.exp(np.logaddexp.reduce(test.stakes, axis=-1))
        for rate in np.linspace(0, limit, 8):
            assert wealth @ chances(rate) <= 1 + 1e-9


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_nobody_wins_on_average_whatever_came_before_while_the_limit_is_kept(limit: float) -> None:
    """Each chance depends on the last outcome, and never exceeds the limit."""
    after_yes, after_no = limit, limit / 5
    before = np.concatenate((np.zeros((len(SEQUENCES), 1), bool), SEQUENCES[:, :-1]), axis=1)
    rates = np.where(before, after_yes, after_no)
    weights = np.where(SEQUENCES, rates, 1 - rates).prod(axis=1)
    test = RateTest.start(limit, (len(SEQUENCES),))
    for time in range(LENGTH):
        test = test.observe(SEQUENCES[:, time])
    assert np.exp(np.logaddexp.reduce(test.stakes, axis=-1)) @ weights <= 1 + 1e-9


@pytest.mark.parametrize("limit", [0.05, 0.3])
@pytest.mark.parametrize("past", [0, 3])
def test_no_alarm_beyond_its_level_while_nothing_changes(limit: float, past: int) -> None:
    """Over all sequences, the first outcomes being the past. By Ville's inequality at every level at once."""
    test = RegressionTest.start(limit, SEQUENCES[:, :past].sum(axis=1), past, (len(SEQUENCES),))
    change = test.change.wealth
    for time in range(past, LENGTH):
        test = test.observe(SEQUENCES[:, time])
        change = np.maximum(change, test.change.wealth)
    for peak in (change, test.peak):
        for rate, level in itertools.product(np.linspace(0, limit, 8), (1.5, 2, 5, 20, 100)):
            assert chances(rate)[peak >= np.log(level)].sum() <= 1 / level + 1e-9


def test_all_gamblers_who_will_ever_join_have_no_more_than_the_first_ones_money() -> None:
    stakes = np.exp([_log_stakes(joined) for joined in range(100_000)])
    assert 0.99 <= stakes.sum() <= 1


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([0.02, 0.05, 0.2]), st.data())
def test_a_stored_state_goes_on_as_if_nothing_had_happened(
    outcomes: list[bool], limit: float, data: st.DataObject
) -> None:
    pause = data.draw(st.integers(0, len(outcomes)))
    test = stored = RegressionTest.start(limit, 1, 40)
    for place, outcome in enumerate(outcomes):
        test = test.observe(outcome)
        if place == pause:
            stored = RegressionTest.from_json(json.loads(json.dumps(stored.to_json())))
        stored = stored.observe(outcome)
    assert stored.to_json() == test.to_json()


@pytest.mark.parametrize("change_peak", [9.9, 9.91])
def test_an_alarm_from_when_each_test_had_its_own_stays_one(change_peak: float) -> None:
    """At half of 1e-4 each; 9.9035 is its logarithm."""
    old = RegressionTest.start(0.05, 1, 40).to_json()
    del old["peak"]
    old["change"]["peak"] = change_peak
    assert RegressionTest.from_json(old).rejects(1e-4) == (change_peak > 9.9035)


def test_many_lives_at_once_are_the_same_as_one_after_the_other() -> None:
    rng = np.random.default_rng(3)
    outcomes = rng.random((5, 200)) < 0.1
    together = RegressionTest.start(0.05, np.arange(5), 100, (5,))
    alone = [RegressionTest.start(0.05, k, 100) for k in range(5)]
    for time in range(200):
        together = together.observe(outcomes[:, time])
        alone = [test.observe(outcome) for test, outcome in zip(alone, outcomes[:, time], strict=True)]
    assert np.allclose(together.peak, [float(test.peak) for test in alone])
    assert np.allclose(together.promise.peak, [float(test.promise.peak) for test in alone])


@pytest.mark.parametrize("limit", [0.0, 1.0, float("nan"), -1.0])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        RateTest.start(limit)
    with pytest.raises(ValueError, match="limit"):
        ChangeTest.start(limit, 0, 10)


def test_a_past_with_more_failures_than_calls_is_refused() -> None:
    with pytest.raises(ValueError, match="11 failures in 10"):
        ChangeTest.start(0.05, 11, 10)


@pytest.mark.parametrize("stakes", [[0.0], [[0.0] * 4], [0.0, 0.0, 0.0, float("inf")], "abcd"])
def test_a_damaged_state_is_refused(stakes: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        RateTest.from_json({**RateTest.start(0.05).to_json(), "stakes": stakes})


def ever_lost(rate: float, bounds: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> int:
    """In how many of 1,000 lives of 1,000 calls the bounds, looked at after every call, are ever wrong."""
    failures = (np.random.default_rng(11).random((1000, 1000)) < rate).cumsum(axis=1)
    n = np.broadcast_to(np.arange(1, 1001), failures.shape)
    tallies, place = np.unique(failures * 10_000 + n, return_inverse=True)
    low, high = bounds(tallies // 10_000, tallies % 10_000)
    return int(((low > rate) | (high < rate))[place].reshape(n.shape).any(axis=1).sum())


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("expected", [0.05, 0.5])
def test_the_sequence_of_intervals_hardly_ever_loses_the_rate(rate: float, expected: float) -> None:
    assert ever_lost(rate, lambda k, n: confidence_sequence(k, n, 0.05, expected)) <= 0.05 * 1000


def test_bounds_for_one_look_lose_it_far_more_often_when_looked_at_after_every_call() -> None:
    assert ever_lost(0.05, lambda k, n: (lower_bound(k, n, 0.05), upper_bound(k, n, 0.05))) > 0.25 * 1000


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.001, 0.05]))
def test_intervals_hold_what_was_seen_and_are_wider_than_for_one_look(n: int, share: float, delta: float) -> None:
    failures = round(share * n)
    low, high = confidence_sequence(failures, n, delta, 0.05)
    assert low <= failures / n <= high
    assert low <= lower_bound(failures, n, delta) + 1e-9
    assert high >= upper_bound(failures, n, delta) - 1e-9


def test_nothing_is_known_before_the_first_call() -> None:
    low, high = confidence_sequence(0, 0, 0.05, 0.05)
    assert (float(low), float(high)) == (0.0, 1.0)


def test_intervals_shrink_at_the_pace_of_exact_ones() -> None:
    low, high = confidence_sequence(500, 10_000, 0.05, 0.05)
    exact = upper_bound(500, 10_000, 0.025) - lower_bound(500, 10_000, 0.025)
    assert high - low < 2.2 * exact


def test_the_chance_to_lose_it_by_a_fixed_call_is_far_below_delta() -> None:
    n, rate = 200, 0.05
    low, high = confidence_sequence(np.arange(n + 1), n, 0.05, 0.05)
    assert binom.pmf(np.arange(n + 1), n, rate)[(low > rate) | (high < rate)].sum() < 0.02

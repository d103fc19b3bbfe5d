"""Exact bounds: the textbook's numbers, the definition, and the coverage, computed and not sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from router.learning.proof.bounds import interval, lower_bound, upper_bound

DELTAS = st.sampled_from([0.001, 0.01, 0.05, 0.2])


@st.composite
def tallies(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 2000))
    return draw(st.integers(0, n)), n


@pytest.mark.parametrize(("failures", "n"), [(0, 59), (1, 93), (2, 124), (3, 153), (5, 208)])
def test_so_many_calls_certify_five_percent_and_one_fewer_does_not(failures: int, n: int) -> None:
    assert upper_bound(failures, n, 0.05) <= 0.05 < upper_bound(failures, n - 1, 0.05)


@given(tallies(), DELTAS)
def test_both_sides_are_those_of_scipy(tally: tuple[int, int], delta: float) -> None:
    failures, n = tally
    theirs = binomtest(failures, n).proportion_ci(1 - delta, method="exact")
    assert interval(failures, n, delta) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(tallies(), DELTAS)
def test_at_the_bound_so_few_failures_have_a_chance_of_delta(tally: tuple[int, int], delta: float) -> None:
    failures, n = tally
    bound = float(upper_bound(failures, n, delta))
    if failures < n:
        assert binom.cdf(failures, n, bound) == pytest.approx(delta, rel=1e-6)
    else:
        assert bound == 1.0


@pytest.mark.parametrize("n", [1, 10, 59, 124, 500])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2])
def test_the_bounds_fail_no_more_often_than_promised_at_any_rate(n: int, delta: float) -> None:
    failures = np.arange(n + 1)
    upper, lower = upper_bound(failures, n, delta), lower_bound(failures, n, delta)
    for rate in np.linspace(0.001, 0.999, 200):
        chances = binom.pmf(failures, n, rate)
        assert chances[upper < rate].sum() <= delta + 1e-9
        assert chances[lower > rate].sum() <= delta + 1e-9


def test_nothing_is_known_from_no_call() -> None:
    assert interval(0, 0, 0.05) == (0.0, 1.0)


@given(tallies(), DELTAS)
def test_more_failures_never_lower_a_bound(tally: tuple[int, int], delta: float) -> None:
    failures, n = tally
    assert (np.diff(upper_bound(np.arange(failures + 1), n, delta)) >= 0).all()

"""A judge that is wrong both ways, and a bound that is right all the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.certificate import JudgeError
from router.contract import Answer
from router.learning.proof.bounds import lower_bound, upper_bound
from router.learning.proof.judge import corrected_lower, corrected_upper, measure, most_rejected
from router.learning.proof.text import JudgedText

PERFECT = JudgeError(disagreements=10**7, passed=0, agreements=10**7, rejected=0)
USELESS = JudgeError(disagreements=1000, passed=500, agreements=1000, rejected=500)


def test_its_error_is_counted_by_what_is_true() -> None:
    judge = JudgedText("first letter", lambda a, b: None if "?" in b.text else a.text[0] == b.text[0])
    pairs = [("ab", "ac", True), ("ab", "cd", True), ("ab", "ad", False), ("ab", "xy", False), ("a", "b?", False)]
    error = measure(judge, [(Answer(left), Answer(right), truth) for left, right, truth in pairs])
    assert error == JudgeError(disagreements=2, passed=1, agreements=2, rejected=1)


def test_a_judge_without_error_changes_nothing() -> None:
    for share in (0.0, 0.05, 0.5, 1.0):
        assert corrected_upper(share, PERFECT, 0.05) == pytest.approx(share, abs=1e-5)
        assert corrected_lower(share, PERFECT, 0.05) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("error", [USELESS, JudgeError(disagreements=0, passed=0, agreements=1000, rejected=0)])
def test_a_coin_or_an_unmeasured_judge_proves_nothing(error: JudgeError) -> None:
    assert corrected_upper(0.0, error, 0.05) == 1.0
    assert corrected_lower(0.9, USELESS, 0.05) == 0.0


@pytest.mark.parametrize("theta", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(("passes", "rejects"), [(0.1, 0.02), (0.3, 0.05), (0.02, 0.2)])
def test_the_corrected_bounds_fail_no_more_often_than_promised(theta: float, passes: float, rejects: float) -> None:
    rng, repeats, n, pairs, delta = np.random.default_rng(7), 1000, 300, 200, 0.1
    q = theta * (1 - passes) + (1 - theta) * rejects
    wrong_above = wrong_below = exceeded = 0
    for k, passed, rejected in zip(
        rng.binomial(n, q, repeats), rng.binomial(pairs, passes, repeats), rng.binomial(pairs, rejects, repeats),
        strict=True,
    ):  # fmt: skip
        error = JudgeError(disagreements=pairs, passed=int(passed), agreements=pairs, rejected=int(rejected))
        wrong_above += bool(corrected_upper(upper_bound(k, n, delta / 2), error, delta / 2) < theta)
        wrong_below += bool(corrected_lower(lower_bound(k, n, delta / 2), error, delta / 2) > theta)
        exceeded += most_rejected(theta, error, delta) < q
    assert max(wrong_above, wrong_below, exceeded) <= delta * repeats


@given(st.floats(0.001, 0.5), st.integers(0, 50), st.integers(0, 50))
def test_a_kept_promise_is_never_below_what_the_judge_rejects_on_the_measured_average(
    alpha: float, passed: int, rejected: int
) -> None:
    error = JudgeError(disagreements=50, passed=passed, agreements=50, rejected=rejected)
    expected = alpha * (1 - passed / 50) + (1 - alpha) * rejected / 50
    assert expected - 1e-12 <= most_rejected(alpha, error, 0.05) <= 1

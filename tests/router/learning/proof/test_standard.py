"""What has to be proved, and how many calls that takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.certificate import JudgeError
from router.learning.proof.standard import Standard

GOOD_JUDGE = JudgeError(disagreements=400, passed=4, agreements=4000, rejected=4)
BLIND_JUDGE = JudgeError(disagreements=100, passed=100, agreements=100, rejected=0)


@pytest.mark.parametrize(("failures", "calls"), [(0, 59), (1, 93), (2, 124)])
def test_the_promised_numbers_of_calls(failures: int, calls: int) -> None:
    assert Standard(0.05, 0.05).needed(failures) == calls


@pytest.mark.parametrize(("failures", "calls"), [(0, 81), (1, 139), (2, 184)])
def test_evidence_that_is_looked_at_as_it_grows_needs_more(failures: int, calls: int) -> None:
    assert Standard(0.05, 0.05, anytime=True).needed(failures) == calls


@given(
    st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([0.01, 0.05]), st.sampled_from([None, GOOD_JUDGE]),
    st.booleans(), st.integers(0, 6),
)  # fmt: skip
@settings(max_examples=40)
def test_needed_is_the_least_number_and_allowed_its_inverse(
    alpha: float, delta: float, judge: JudgeError | None, anytime: bool, failures: int
) -> None:
    standard = Standard(alpha, delta, judge, anytime)
    needed = standard.needed(failures)
    if needed is None:
        assert standard.bound(failures, 1_000_000) > alpha
        return
    assert standard.bound(failures, needed) <= alpha < standard.bound(failures, needed - 1)
    assert standard.allowed(needed) >= failures
    assert standard.allowed(needed - 1) < failures


def test_with_too_few_calls_not_even_none_may_fail() -> None:
    assert Standard(0.05, 0.05).allowed([0, 58, 59, 92, 93]).tolist() == [-1, -1, 0, 0, 1]


def test_a_blind_judge_can_never_prove_it() -> None:
    assert Standard(0.05, 0.05, BLIND_JUDGE).needed(0) is None


def test_a_judge_costs_calls() -> None:
    needed = Standard(0.05, 0.05, GOOD_JUDGE).needed(0)
    assert needed is not None
    assert 59 < needed < 90


def test_an_audit_by_a_judge_tolerates_what_the_judge_invents() -> None:
    assert Standard(0.05, 0.05).limit == 0.05
    sloppy = JudgeError(disagreements=400, passed=4, agreements=4000, rejected=400)
    assert 0.14 < Standard(0.05, 0.05, sloppy).limit < 0.17


def test_attempts_together_spend_no_more_than_twice_delta() -> None:
    standard = Standard(0.05, 0.05)
    assert standard.for_attempt(1) == standard
    spent = np.cumsum([standard.for_attempt(attempt).delta for attempt in range(1, 2000)])
    assert spent[-1] <= 2 * 0.05
    with pytest.raises(ValueError, match="attempt 0"):
        standard.for_attempt(0)


@pytest.mark.parametrize(("alpha", "delta"), [(0, 0.05), (1, 0.05), (0.05, 0), (0.05, 1), (float("nan"), 0.05)])
def test_a_risk_or_confidence_that_is_none_is_refused(alpha: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        Standard(alpha, delta)

"""A judge that is wrong both ways, and a bound that is right all the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.certificate import JudgeError
from router.contract import Answer
from router.learning.proof.agreement import plain
from router.learning.proof.bounds import lower_bound, upper_bound
from router.learning.proof.judge import (
    UNMEASURED,
    corrected_lower,
    corrected_upper,
    measure,
    measure_worst,
    most_rejected,
)
from router.learning.proof.known_pairs import HARMLESS, KnownPair, known_pairs
from router.learning.proof.standard import Standard
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


def test_false_alarms_earn_a_bound_no_credit() -> None:
    """An SLM that repeats the LLM word for word is never rejected, whatever the judge makes of paraphrases."""
    strict = JudgeError(disagreements=1000, passed=0, agreements=1000, rejected=300)
    assert corrected_upper(0.3, strict, 0.05) >= 0.3


def answers(count: int) -> list[str]:
    """Replies that differ in a number, a name and a fact; no two are alike."""
    towns, states = ("Ghent", "Porto", "Turku", "Brno"), ("late", "here", "lost")
    return [
        f"Dear customer, parcel {1000 + k} to {towns[k % 4]} is {states[k % 3]}. Our driver number {k} will ring you."
        for k in range(count)
    ]


def pairs_of(texts: list[str]) -> list[KnownPair]:
    vectors = np.random.default_rng(1).normal(size=(len(texts), 8)).astype(np.float32)
    return known_pairs(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_pairs_of_every_kind_are_made_and_none_is_of_equal_texts() -> None:
    pairs = pairs_of(answers(40))
    kinds = Counter(pair.kind for pair in pairs)
    assert set(kinds) == {HARMLESS, "other", "sentence", "number", "negation", "name"}
    assert all(pair.agree is (pair.kind == HARMLESS) for pair in pairs)
    assert all(pair.reference.text != pair.answer.text for pair in pairs)
    edits = {pair.kind: pair.answer.text for pair in reversed(pairs)}
    assert edits["negation"].startswith("Dear customer, parcel 1000 to Ghent is not late.")
    assert edits["number"].startswith("Dear customer, parcel 1001 to Ghent is late.")
    assert edits["name"].startswith("Dear customer, parcel 1000 to Brno is late.")
    assert edits[HARMLESS].startswith("**Dear customer, parcel 1000 to Ghent is late.**\nOur driver")


def test_the_kind_that_a_comparator_is_worst_at_is_its_error() -> None:
    """It is blind to negations alone, and those are one pair in five."""
    blind = JudgedText("no ear for not", lambda a, b: plain(a.text) == plain(b.text.replace(" not ", " ")))
    pairs = [pair for pair in pairs_of(answers(40)) if pair.kind != HARMLESS]
    pairs += agreeing(40)
    error = measure_worst(blind, pairs, 0.01)
    assert error == JudgeError(disagreements=40, passed=40, agreements=40, rejected=0)
    assert corrected_upper(0.0, error, 0.05) == 1.0


def test_an_error_that_could_not_be_measured_proves_nothing() -> None:
    good = JudgedText("good", lambda a, b: plain(a.text) == plain(b.text))
    error = measure_worst(good, pairs_of(answers(20)), 0.01)
    assert error == UNMEASURED
    assert not error.is_measured
    assert corrected_upper(0.0, error, 0.05) == 1.0
    same = ["We are sorry."] * 60  # no answer to another request is another answer
    assert measure_worst(good, pairs_of(same), 0.01) == UNMEASURED


@pytest.mark.parametrize("blindness", [0.05, 0.2])
def test_the_bound_that_a_measured_judge_gives_fails_no_more_often_than_promised(blindness: float) -> None:
    """By simulation: a judge that passes so many of all disagreements, of each kind alike, on 5 % true disagreement."""
    rng, repeats, n, delta, theta = np.random.default_rng(3), 400, 300, 0.1, 0.05
    pairs = pairs_of(answers(60))
    wrong = 0
    for _ in range(repeats):
        judge = JudgedText("dull", lambda a, b: bool(rng.random() < blindness))
        error = measure_worst(judge, [pair for pair in pairs if not pair.agree] + agreeing(60), delta / 4)
        assert error.is_measured
        seen = rng.binomial(n, theta * (1 - blindness))
        wrong += bool(Standard(theta, delta, error).bound(seen, n) < theta)
    assert wrong <= delta * repeats


def agreeing(count: int) -> list[KnownPair]:
    return [KnownPair(Answer(f"a {k}"), Answer(f"a  {k}"), True, HARMLESS) for k in range(count)]

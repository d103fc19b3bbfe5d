"""Certificates: the promise held in simulation, on evidence as it really comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from router.certificate import Certificate, JudgeError, SelfAgreement, Subject, shortfall
from router.learning.proof.certification import Provenance, certify
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard
from router.learning.proof.thresholds import choose_threshold, threshold_grid

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SUBJECT = Subject(cluster_id="c1", model="triage-v3", weights="w1", skeleton="s1", contract="k1", teacher="gpt-4o/fp_1")
STANDARD = Standard(0.05, 0.05)
REPEATS = 1000


def certified(
    evidence: Evidence,
    threshold: float | None = None,
    standard: Standard = STANDARD,
    source: Literal["holdout", "shadow"] = "holdout",
    attempt: int = 1,
    **more: Any,
) -> Certificate:
    origin = Provenance(source, NOW - timedelta(days=2), NOW - timedelta(days=1), attempt)
    return certify(SUBJECT, evidence, origin, threshold, standard, comparator="label: exact", issued_at=NOW, **more)


def outcomes(n: int, failures: int) -> Evidence:
    return Evidence.of(np.ones(n), np.arange(n) < failures)


@pytest.mark.parametrize(("failures", "n"), [(0, 59), (1, 93), (2, 124)])
def test_so_many_conversations_certify_and_one_fewer_is_told_what_it_lacks(failures: int, n: int) -> None:
    passing, short = certified(outcomes(n, failures)), certified(outcomes(n - 1, failures))
    assert passing.passes
    assert shortfall(passing, SUBJECT, alpha=0.05, delta=0.05, now=NOW) == {}
    assert short.short_of(0.05)["n"] == f"{n - 1} conversations served, needed: {n} with {failures} failures"


def test_no_evidence_is_a_certificate_of_nothing() -> None:
    nothing = certified(outcomes(0, 0))
    assert (nothing.passes, nothing.n, nothing.disagreement_bound, nothing.disagreement) == (False, 0, 1.0, None)


def test_the_figures_are_those_of_the_served_calls() -> None:
    evidence = Evidence.of(
        [0.9, 0.9, 0.2, 0.9, float("nan")], [False, True, True, False, False], ["a", "b", "c", "d", "e"],
        [False, False, False, True, False],
    )  # fmt: skip
    made = certified(evidence, threshold=0.5)
    assert (made.conversations, made.n, made.failures, made.incomparable, made.coverage) == (5, 3, 2, 1, 0.6)
    assert made.data_hash == evidence.digest
    assert made.coverage_low < 0.6 < made.coverage_high
    assert made.expires_at == NOW + timedelta(days=90)
    assert Certificate.from_json(made.to_json()) == made


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_that_is_no_number_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="no number"):
        certified(outcomes(59, 0), threshold)


def test_the_ceiling_stands_beside_it_with_its_own_interval() -> None:
    made = certified(outcomes(500, 60), ceiling=SelfAgreement(pairs=400, disagreements=60))
    assert made.ceiling_low is not None
    assert made.ceiling_high is not None
    assert made.excess_bound is not None
    assert made.ceiling_low < 0.15 < made.ceiling_high
    assert made.excess_bound < 0.05, "the SLM disagrees no more with the LLM than the LLM with itself"
    assert "ceiling" in made.short_of(0.05)


def test_a_comparator_with_an_error_is_not_taken_at_its_word() -> None:
    judge = JudgeError(disagreements=100, passed=20, agreements=100, rejected=0)
    made = certified(outcomes(100, 2), standard=Standard(0.05, 0.05, judge))
    assert made.disagreement_bound > certified(outcomes(100, 2)).disagreement_bound
    assert made.judge == judge
    assert "200 pairs" in made.method


def test_a_second_attempt_has_to_prove_more() -> None:
    assert not certified(outcomes(59, 0), attempt=3).passes
    assert certified(outcomes(94, 0), attempt=3).passes
    assert "attempt 3" in certified(outcomes(94, 0), attempt=3).method


def test_shadow_traffic_is_certified_by_a_bound_that_may_be_looked_at_as_it_grows() -> None:
    assert not certified(outcomes(80, 0), source="shadow").passes
    assert certified(outcomes(81, 0), source="shadow").passes


def test_an_slm_just_above_the_risk_is_certified_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(1)
    passed = sum(certified(Evidence.of(np.ones(200), rng.random(200) < 0.0505)).passes for _ in range(REPEATS))
    assert 0 < passed <= STANDARD.delta * REPEATS


def test_choosing_and_certifying_together_keep_the_promise() -> None:
    """An SLM that is worst where it is surest, so that strict thresholds are no safer than lax ones."""

    def risk(sure: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(sure > 0.95, 0.08, np.where(sure > 0.3, 0.01, 0.16))

    def drawn() -> Evidence:
        sure = rng.random(calls)
        return Evidence.of(sure, rng.random(calls) < risk(sure))

    rng, scale, calls = np.random.default_rng(2), np.linspace(0, 1, 10_001), 1000
    grid = threshold_grid(rng.random(2000), calls, STANDARD)
    issued = broken = 0
    for _ in range(REPEATS):
        made = choose_threshold(drawn(), grid, STANDARD, calls)
        if made is not None and certified(drawn(), made.threshold).passes:
            issued += 1
            broken += risk(scale[scale >= (made.threshold or 0)]).mean() > STANDARD.alpha
    assert broken <= STANDARD.delta * REPEATS
    assert issued > 0.5 * REPEATS


def test_bursts_of_failures_in_a_conversation_count_once() -> None:
    """5.05 % of the conversations fail in all of their calls, four on average. Counted as calls, they pass."""
    rng = np.random.default_rng(3)
    by_conversation = by_call = 0
    for _ in range(REPEATS):
        sizes, fails = rng.geometric(0.25, 200), rng.random(200) < 0.0505
        members = np.repeat(np.arange(200), sizes)
        evidence = Evidence.of(np.ones(len(members)), fails[members], members)
        by_conversation += certified(evidence).passes
        by_call += certified(Evidence.of(evidence.confidences, evidence.failed)).passes
    assert by_conversation <= STANDARD.delta * REPEATS
    assert by_call > 3 * STANDARD.delta * REPEATS


def test_looking_at_shadow_traffic_after_every_conversation_keeps_the_promise() -> None:
    rng, n = np.random.default_rng(4), np.arange(1, 1001)
    failures = (rng.random((REPEATS, 1000)) < 0.0505).cumsum(axis=1)
    ever = {
        anytime: (failures <= Standard(0.05, 0.05, anytime=anytime).allowed(n)).any(axis=1).sum()
        for anytime in (True, False)
    }
    assert ever[True] <= STANDARD.delta * REPEATS
    assert ever[False] > 3 * STANDARD.delta * REPEATS, "what a bound for one look would do"


def test_trying_bad_models_until_one_passes_is_bounded_for_ever() -> None:
    rng, attempts = np.random.default_rng(5), range(1, 41)
    failures = rng.binomial(300, 0.0505, (REPEATS, len(attempts)))
    allowed = np.array([int(STANDARD.for_attempt(attempt).allowed(300)) for attempt in attempts])
    assert (failures <= allowed).any(axis=1).sum() <= 2 * STANDARD.delta * REPEATS
    assert (failures <= allowed[0]).any(axis=1).sum() > 0.5 * REPEATS, "what equal chances for all would do"

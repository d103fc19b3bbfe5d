"""How sure an SLM must be: never at the price of the promise, and not much stricter than it has to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard
from router.learning.proof.thresholds import Choice, choose_threshold, likeliest_threshold, threshold_grid

STANDARD = Standard(0.05, 0.05)
REPEATS = 1000
Risk = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def honest(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance of a failure: falls as sureness grows. Serving the surest 71 % fails in 5 %."""
    return 0.3 * (1 - sure) ** 2


def overconfident(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Worst where it is surest, and bad where it is not sure at all."""
    return np.where(sure > 0.97, 0.4, np.where(sure > 0.4, 0.01, 0.2))


def blind(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sureness says nothing, and the risk is just too high everywhere."""
    return np.full_like(sure, 0.0505)


SURE = np.linspace(0, 1, 20_001)


def true_risk(risk: Risk, threshold: float | None) -> float:
    """Of the calls served at a threshold; sureness is uniform in [0, 1]."""
    return float(risk(SURE[(-1 if threshold is None else threshold) <= SURE]).mean())


def drawn(rng: np.random.Generator, risk: Risk, n: int) -> Evidence:
    sure = rng.random(n)
    return Evidence.of(sure, rng.random(n) < risk(sure))


def choices(risk: Risk, n: int, repeats: int = REPEATS) -> list[Choice | None]:
    rng = np.random.default_rng(5)
    grid = threshold_grid(rng.random(2000), n, STANDARD)
    return [choose_threshold(drawn(rng, risk, n), grid, STANDARD, n) for _ in range(repeats)]


@pytest.mark.parametrize("risk", [honest, overconfident, blind])
def test_a_choice_breaks_the_promise_no_more_often_than_promised(risk: Risk) -> None:
    broken = [true_risk(risk, made.threshold) > STANDARD.alpha for made in choices(risk, 400) if made is not None]
    assert sum(broken) <= STANDARD.delta * REPEATS


@pytest.mark.parametrize(("n", "share"), [(400, 0.55), (1000, 0.75), (4000, 0.83)])
def test_the_certified_set_is_nearly_as_large_as_if_the_best_threshold_were_known(n: int, share: float) -> None:
    """Whoever knows the true risks picks the one threshold whose certified coverage is largest on average."""
    shares = np.linspace(0.05, 1, 96)
    allowed = STANDARD.allowed((n * shares).astype(int))
    best = (shares * np.where(allowed >= 0, binom.cdf(allowed, (n * shares).astype(int), 0.1 * shares**2), 0)).max()
    rng, certified = np.random.default_rng(5), []
    for made in choices(honest, n, repeats=200):
        served = drawn(rng, honest, n).served(made.threshold) if made else Evidence.of([], [])
        certified.append(len(served) / n * (STANDARD.bound(served.failed.sum(), len(served)) <= STANDARD.alpha))
    assert share * best <= np.mean(certified) <= 1.1 * best


def test_with_calls_enough_the_served_set_is_the_oracles() -> None:
    """The oracle serves the largest set whose true risk is 5 %: the surest 1/√2 of all calls."""
    (made,) = choices(honest, 200_000, repeats=1)
    assert made is not None
    assert 0.95 * np.sqrt(0.5) <= made.coverage <= np.sqrt(0.5)


def test_an_slm_that_is_never_wrong_serves_everything() -> None:
    made = choose_threshold(
        Evidence.of(SURE[::20], np.zeros(1001)), threshold_grid(SURE, 1001, STANDARD), STANDARD, 1001
    )
    assert made is not None
    assert (made.threshold, made.coverage, made.failures) == (None, 1.0, 0)


def test_without_calls_enough_to_prove_anything_nothing_is_chosen() -> None:
    few = Evidence.of(np.linspace(0, 1, 58), np.zeros(58))
    assert choose_threshold(few, threshold_grid(few.confidences, 58, STANDARD), STANDARD, 58) is None
    none = Evidence.of([], [])
    assert choose_threshold(none, threshold_grid([], 0, STANDARD), STANDARD, 0) is None


def test_repeated_calls_of_few_conversations_are_few_calls() -> None:
    calls = Evidence.of(np.linspace(0, 1, 5800), np.zeros(5800), np.repeat(np.arange(58), 100))
    assert choose_threshold(calls, np.array([0.5, -np.inf]), STANDARD, 58) is None


def test_the_grid_falls_from_what_can_be_proved_to_everything() -> None:
    grid = threshold_grid(SURE, 1000, STANDARD)
    assert (np.diff(grid) < 0).all()
    assert grid[-1] == -np.inf
    assert 1000 * (1 - grid[0]) >= 59
    assert threshold_grid([0.5] * 100, 1000, STANDARD).tolist() == [0.5, -np.inf]
    assert threshold_grid([np.nan] * 100, 1000, STANDARD).tolist() == [-np.inf]


def test_a_small_calibration_split_proves_nothing_and_still_finds_what_is_likeliest_to_pass() -> None:
    """40 calls: the five least sure fail. No threshold is proved by so few; the certificate has to prove it."""
    sure = np.linspace(0.5, 1, 40)
    calibration = Evidence.of(sure, sure < 0.57)
    assert choose_threshold(calibration, np.append(sure[:0:-1], -np.inf), STANDARD, 80) is None
    made = likeliest_threshold(calibration, STANDARD, 80)
    assert made.threshold == sure[sure >= 0.57].min()
    assert made.failures == 0
    assert likeliest_threshold(Evidence.of(sure, sure < 0), STANDARD, 80).threshold is None


@pytest.mark.parametrize("confidences", [[], [np.nan] * 3, [0.9]])
def test_next_to_no_calibration_serves_all(confidences: list[float]) -> None:
    made = likeliest_threshold(Evidence.of(confidences, [False] * len(confidences)), STANDARD, 80)
    assert made.threshold is None

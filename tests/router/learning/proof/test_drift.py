"""Drift: traffic that moves away is noticed, traffic that stays is left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import beta

from router.learning.proof.audit import Alarm, AuditInvalid
from router.learning.proof.drift import Drift, tail_limit


def watched(drift: Drift, distances: np.ndarray) -> Drift:
    for place, distance in enumerate(distances):
        drift = drift.observe(f"conversation {drift.n + place}", float(distance))
    return drift


@pytest.mark.parametrize("distribution", ["uniform", "exponential", "normal"])
def test_few_further_values_exceed_the_limit_whatever_they_are_distributed_like(distribution: str) -> None:
    rng, exceeded = np.random.default_rng(1), 0
    further = getattr(rng, distribution)(size=20_000)
    for _ in range(1000):
        limit = tail_limit(getattr(rng, distribution)(size=300), 0.1, 0.05)
        exceeded += (further > limit).mean() > 0.1
    assert exceeded <= 0.06 * 1000, "the share that exceeds is itself estimated, to 0.2 points"


@pytest.mark.parametrize("n", [59, 100, 1000])
def test_the_limit_is_the_least_of_its_kind(n: int) -> None:
    values = np.arange(n)
    rank = n - int(tail_limit(values, 0.05, 0.05))  # the k-th largest
    assert beta.sf(0.05, rank, n - rank + 1) <= 0.05 < beta.sf(0.05, rank + 1, n - rank)


def test_too_few_values_set_no_limit() -> None:
    assert tail_limit(np.arange(58), 0.05, 0.05) == float("inf")
    assert tail_limit([], 0.05, 0.05) == float("inf")
    unlimited = watched(Drift.start([0.1] * 20), np.full(100, 9.0))
    assert (unlimited.alarm, unlimited.n) == (None, 0)


def test_traffic_that_stays_what_it_was_raises_no_alarm() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        assert watched(Drift.start(rng.exponential(size=400)), rng.exponential(size=300)).alarm is None


def test_traffic_that_moves_away_is_noticed() -> None:
    rng = np.random.default_rng(3)
    drift = watched(Drift.start(rng.exponential(size=400)), rng.exponential(size=200))
    assert watched(drift, rng.exponential(size=60) + 3).alarm is Alarm.DRIFTED


def test_a_distance_that_is_no_number_is_far() -> None:
    assert watched(Drift.start(np.linspace(0, 1, 400)), np.full(50, np.nan)).alarm is Alarm.DRIFTED


def test_a_long_conversation_that_wandered_off_counts_once() -> None:
    drift = Drift.start(np.linspace(0, 1, 400))
    for _ in range(500):
        drift = drift.observe("the same", 9.0)
    assert (drift.alarm, drift.n, drift.far) == (None, 1, 1)


@pytest.mark.parametrize("certified", [400, 10])
def test_a_stored_watch_goes_on(certified: int) -> None:
    rng = np.random.default_rng(4)
    drift = stored = Drift.start(rng.random(certified))
    for place, distance in enumerate(rng.random(100)):
        drift = drift.observe(str(place % 70), distance)
        stored = Drift.from_json(json.loads(json.dumps(stored.to_json()))).observe(str(place % 70), distance)
    assert stored.to_json() == drift.to_json()


@pytest.mark.parametrize("value", [None, {}, {"limit": "far"}])
def test_a_damaged_state_is_named(value: object) -> None:
    with pytest.raises(AuditInvalid, match="drift watch"):
        Drift.from_json(value)

"""Where the marks of a picture go."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.console.charts import days, proofs, tiles, timing
from router.certificate import Subject
from tests.proxy.certificates import certificate_of

BEGIN = date(2026, 11, 1)
SUBJECT = Subject(cluster_id="c", model="m", weights="w", skeleton="s", contract="k", teacher="t")
MONEY = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(MONEY, min_size=1, max_size=90))
def test_every_bar_is_inside_and_reaches_to_zero(values: list[float]) -> None:
    chart = days([(BEGIN + timedelta(days=number), value) for number, value in enumerate(values)])
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= 100.0001
        assert bar.y >= -0.0001
        assert bar.y + bar.height <= 100.0001
        edge = bar.y if bar.value < 0 else bar.y + bar.height
        assert edge == pytest.approx(chart.zero, abs=1e-6)
    assert len(chart.ticks) <= 7


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_tiles_are_as_large_as_their_weights_and_fill_the_map(weights: list[float]) -> None:
    placed = tiles(list(enumerate(weights)))
    total = sum(weights)
    assert len(placed) == len(weights)
    for tile in placed:
        assert tile.width * tile.height / 1e4 == pytest.approx(weights[tile.item] / total, rel=1e-6, abs=1e-9)
        assert tile.x >= -1e-6
        assert tile.x + tile.width <= 100.001
        assert tile.y >= -1e-6
        assert tile.y + tile.height <= 100.001
    for one, other in itertools.combinations(placed, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert across < 1e-3 or down < 1e-3


def test_what_weighs_nothing_is_not_on_the_map() -> None:
    assert tiles([("a", 0.0), ("b", -1.0)]) == []
    assert [tile.item for tile in tiles([("a", 0.0), ("b", 1.0)])] == ["b"]


def test_a_bound_above_the_risk_is_above_its_line() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    certificates = [
        certificate_of(SUBJECT, issued_at=now - timedelta(days=age), disagreement_bound=bound, n=100, failures=1)
        for age, bound in ((1, 0.03), (9, 0.2))
    ]
    chart = proofs(certificates, 0.05, now)
    assert chart is not None
    first, last = chart.proved
    assert first.bound < chart.alpha < last.bound < last.seen
    assert first.x < last.x < 100
    assert proofs([], 0.05, now) is None


def test_a_bound_of_one_and_no_time_between_fit_in() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    chart = proofs([certificate_of(SUBJECT, issued_at=now, disagreement_bound=1.0, n=0)], 0.05, now)
    assert chart is not None
    assert all(0 <= each.bound <= each.seen <= 100 for each in chart.proved)


def test_a_calls_time_is_what_was_lost_then_what_served() -> None:
    spans = timing(100.0, [("main", 30.0)], "llm", 80.0)
    assert [(span.kind, span.x, span.width, span.duration_ms) for span in spans] == [
        ("lost", 0.0, 30.0, 30.0), ("wait", 30.0, 50.0, 50.0), ("read", 80.0, 20.0, 20.0),
    ]  # fmt: skip


@pytest.mark.parametrize("first", [None, 0.0, 5.0, 1e9])
@pytest.mark.parametrize("duration", [0.0, 5.0])
def test_odd_times_stay_inside(duration: float, first: float | None) -> None:
    for span in timing(duration, [("main", 7.0)], "llm", first):
        assert span.x >= 0
        assert span.width >= 0
        assert span.x + span.width <= 100.0001

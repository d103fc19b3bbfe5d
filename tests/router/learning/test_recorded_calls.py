"""What discovery reaches on real agent calls, a little below: `tests/bench/discovery.py` prints the whole table."""

from __future__ import annotations

import pytest

from tests.bench.discovery import DATA, Recorded

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the recorded agent calls are not on this machine")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(DATA)


@pytest.mark.parametrize(
    ("kind", "index", "homogeneity"),
    [
        ("plain", 0.97, 0.99), ("head", 0.97, 0.99), ("inline", 0.97, 0.99),
        ("drift", 0.96, 0.98), ("scen", 0.96, 0.98), ("docs", 0.95, 0.97),
    ],
)  # fmt: skip
def test_the_labels_of_recorded_calls_are_found_without_them(
    recorded: Recorded, kind: str, index: float, homogeneity: float
) -> None:
    found = recorded.measure(kind)
    assert found.index >= index
    assert found.homogeneity >= homogeneity
    assert found.recognised >= index - 0.02

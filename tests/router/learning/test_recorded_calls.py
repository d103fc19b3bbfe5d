"""What discovery reaches on real agent calls, a little below: `tests/bench/discovery.py` prints the whole table."""

from __future__ import annotations

import pytest

from router.features import read_chat
from router.learning.skeletons import learn_skeletons
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


def test_an_unknown_agent_is_not_taken_for_a_known_one(recorded: Recorded) -> None:
    calls = [read_chat(row["request"]) for row in recorded.rows]
    agents = [row["agent"] for row in recorded.rows]
    known = [place for place, agent in enumerate(agents) if agent != "metagpt"]
    profiles = learn_skeletons(
        [calls[place] for place in known], [recorded.conversations[place] for place in known]
    ).profiles
    found = [profiles.recognise(call) for call, agent in zip(calls, agents, strict=True) if agent == "metagpt"]
    assert sum(each.task is not None and not each.thin for each in found) <= 0.02 * len(found)

"""No conversation on two sides; the later ones certify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from router.features import CallFeatures
from router.learning.curation.schema_versions import outdated
from router.learning.curation.splits import Shares, Split, related, split
from tests.router.conftest import chat

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = list(Split)


def moments(*minutes: float) -> list[datetime]:
    return [BEGAN + timedelta(minutes=each) for each in minutes]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000)), max_size=200))
def test_conversations_are_whole_and_in_the_order_of_their_beginning(calls: list[tuple[int, int]]) -> None:
    names = [str(name) for name, _ in calls]
    arrived = moments(*(minute for _, minute in calls))
    sides = split(names, arrived)
    assert len(set(zip(names, sides, strict=True))) == len(set(names))
    begun = {name: min(at for other, at in zip(names, arrived, strict=True) if other == name) for name in names}
    by_time = [ORDER.index(sides[names.index(name)]) for name in sorted(begun, key=lambda name: (begun[name], name))]
    assert by_time == sorted(by_time)


def test_shares_are_of_conversations_not_calls() -> None:
    names = ["long"] * 90 + [f"short {number}" for number in range(19)]
    sides = split(names, moments(*range(109)), Shares(calibration=0.2, certification=0.25))
    sizes = [len({name for name, side in zip(names, sides, strict=True) if side is wanted}) for wanted in Split]
    assert sizes == [11, 4, 5]


def test_one_conversation_trains() -> None:
    assert split(["a", "a"], moments(0, 1)) == [Split.TRAIN, Split.TRAIN]


def test_what_the_client_calls_one_session_is_one_conversation() -> None:
    names = related(["a", "b", "c", "d", "b", "e"], ["", "s", "s", "", "t", "t"])
    assert names[1] == names[2] == names[4] == names[5]
    assert len(set(names)) == 3


def versioned(properties: tuple[str, ...], description: str = "", name: str = "find") -> CallFeatures:
    parameters = {"type": "object", "properties": {key: {"type": "string"} for key in properties}}
    tool = {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
    return chat(("user", "a"), tools=[tool])


def test_a_version_that_was_replaced_is_old_and_a_new_description_is_no_version() -> None:
    old, new = versioned(("a",)), versioned(("a", "b"))
    reworded = versioned(("a", "b"), "other words")
    assert outdated([old, old, new, reworded], moments(0, 1, 2, 3)) == [True, True, False, False]
    assert outdated([new, reworded, old, old], moments(2, 3, 0, 1)) == [False, False, True, True]


def test_versions_side_by_side_are_both_current() -> None:
    one, two = versioned(("a",)), versioned(("a", "b"))
    assert outdated([one, two, one, two], moments(0, 1, 2, 3)) == [False] * 4


def test_a_replaced_schema_of_answers_is_old() -> None:
    def asking(*keys: str) -> CallFeatures:
        schema = {"type": "object", "properties": {key: {"type": "string"} for key in keys}}
        return chat(
            ("user", "a"), response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        )

    assert outdated([asking("a"), asking("b"), asking("b")], moments(0, 1, 2)) == [True, False, False]

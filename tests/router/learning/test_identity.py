"""Identities: kept where a task goes on, on record where it splits, merges or ends."""

from __future__ import annotations

import numpy as np
import pytest

from router.learning.identity import keep_identities
from router.snapshot import Lineage


def after(previous: list[str | None], clusters: list[int]) -> tuple[dict[int, str], tuple[Lineage, ...]]:
    count = max(clusters) + 1
    return keep_identities(np.array(clusters), previous, [f"seed {number}" for number in range(count)])


def test_without_a_past_ids_are_new_stable_and_no_news() -> None:
    ids, lineage = after([None] * 4, [0, 0, 1, -1])
    assert ids == after([None] * 6, [0, 0, 0, 1, 1, 1])[0]
    assert len(set(ids.values())) == 2
    assert lineage == ()


def test_a_task_that_goes_on_keeps_its_id_whatever_its_number() -> None:
    ids, lineage = after(["a"] * 5 + ["b"] * 5, [1] * 5 + [0] * 5)
    assert ids == {1: "a", 0: "b"}
    assert lineage == ()


def test_a_grown_task_keeps_its_id() -> None:
    ids, _ = after(["a"] * 10 + [None] * 8, [0] * 18)
    assert ids == {0: "a"}


def test_a_split_keeps_the_id_in_its_larger_part_and_is_on_record() -> None:
    ids, lineage = after(["a"] * 10, [0] * 7 + [1] * 3)
    assert ids[0] == "a"
    assert ids[1] not in ("a", None)
    assert lineage == (Lineage("a", ("a",)), Lineage(ids[1], ("a",)))


def test_a_merger_keeps_the_larger_ones_id_and_is_on_record() -> None:
    ids, lineage = after(["a"] * 7 + ["b"] * 3, [0] * 10)
    assert ids == {0: "a"}
    assert lineage == (Lineage("a", ("a", "b")), Lineage(None, ("b",)))


def test_a_task_that_was_scattered_ends() -> None:
    ids, lineage = after(["a"] * 9, [0] * 3 + [1] * 3 + [2] * 3)
    assert "a" not in ids.values()
    assert Lineage(None, ("a",)) in lineage


def test_a_new_task_is_on_record() -> None:
    ids, lineage = after(["a"] * 5 + [None] * 5, [0] * 5 + [1] * 5)
    assert lineage == (Lineage(ids[1], ()),)


@pytest.mark.parametrize("stray", [1, 2])
def test_a_few_strays_are_no_news(stray: int) -> None:
    ids, lineage = after(["a"] * 20 + ["b"] * 20, [0] * (20 - stray) + [1] * (20 + stray))
    assert ids == {0: "a", 1: "b"}
    assert lineage == ()

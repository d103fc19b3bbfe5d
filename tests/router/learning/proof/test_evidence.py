"""Compared calls, and the conversation as the unit that counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.learning.proof.agreement import Outcome, Verdict
from router.learning.proof.evidence import Evidence


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    n = draw(st.integers(0, 40))

    def column(each: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(each, min_size=n, max_size=n))

    sure = column(st.sampled_from([0.1, 0.2, 0.5, 0.9, float("nan"), -float("inf")]))
    return Evidence.of(sure, column(st.booleans()), column(st.integers(0, 9)), column(st.booleans()))


def rows(evidence: Evidence) -> list[tuple[str, ...]]:
    columns = evidence.confidences, evidence.failed, evidence.incomparable, evidence.conversations
    return [tuple(map(str, row)) for row in zip(*columns, strict=True)]


@given(evidences())
def test_each_conversation_counts_once_with_a_call_of_its_own(evidence: Evidence) -> None:
    for sample in (evidence.one_per_conversation(), evidence.first_per_conversation()):
        assert sorted(sample.conversations) == sorted(set(evidence.conversations.tolist()))
        assert set(rows(sample)) <= set(rows(evidence))


@given(evidences())
def test_nobody_can_draw_again(evidence: Evidence) -> None:
    assert rows(evidence.one_per_conversation()) == rows(evidence.one_per_conversation())


@given(evidences(), st.integers(0, 40))
def test_the_first_calls_stay_the_same_while_evidence_grows(evidence: Evidence, until: int) -> None:
    before = evidence.take(np.arange(len(evidence)) < until).first_per_conversation()
    assert rows(evidence.first_per_conversation())[: len(before)] == rows(before)


def test_every_call_of_a_conversation_has_the_same_chance() -> None:
    picked = [0] * 4
    for salt in range(2000):
        evidence = Evidence.of([0, 1, 2, 3, 4 + salt], [0] * 5, ["a"] * 4 + ["b"])
        picked[int(evidence.one_per_conversation().confidences[0])] += 1
    assert min(picked) > 420  # 500 expected, standard deviation 19


@given(evidences())
def test_a_tally_counts_what_would_be_served(evidence: Evidence) -> None:
    grid = np.array([0.95, 0.9, 0.5, 0.3, 0.1, -np.inf])
    n, failures = evidence.tally(grid)
    for place, threshold in enumerate(grid):
        served = evidence.served(None if threshold == -np.inf else float(threshold))
        assert (n[place], failures[place]) == (len(served), served.failed.sum())


def test_a_call_of_unknown_confidence_is_never_served() -> None:
    evidence = Evidence.of([float("nan"), 0.5], [False, False])
    assert len(evidence.served(None)) == 1


def test_what_can_not_be_compared_counts_as_failed() -> None:
    verdicts = [Verdict(outcome, "") for outcome in Outcome]
    evidence = Evidence.of_verdicts([1, 1, 1], verdicts)
    assert evidence.failed.tolist() == [False, True, True]
    assert evidence.incomparable.tolist() == [False, False, True]


def test_the_digest_names_exactly_this_evidence() -> None:
    columns = [[0.1, 0.2], [False, True], ["a", "b"], [False, False]]
    others = [[0.1, 0.3], [True, True], ["a", "c"], [True, False]]
    digests = {Evidence.of(*columns).digest}
    for place, other in enumerate(others):
        digests.add(Evidence.of(*columns[:place], other, *columns[place + 1 :]).digest)
    digests.add(Evidence.of(*[column[::-1] for column in columns]).digest)
    assert len(digests) == 6
    assert Evidence.of(*columns).digest == Evidence.of(*columns).digest


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        Evidence.of([0.1, 0.2], [True])

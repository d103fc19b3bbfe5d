"""The life of an SLM on a cluster: every move, legal or not."""

from __future__ import annotations

from itertools import product

import pytest

from router.promotion import Cause, Stage, needs_certificate, refusal

#: From each stage (a line) to each (a letter), both in the order of life: candidate, shadow, canary, live, retired.
LEGAL = {
    Stage.CANDIDATE: "-SCLR",
    Stage.SHADOW: "-SCLR",
    Stage.CANARY: "-SCLR",
    Stage.LIVE: "-SCLR",
    Stage.RETIRED: "c----",
}
ALL = list(product(Stage, Stage))


def is_legal(current: Stage, wanted: Stage) -> bool:
    return LEGAL[current][list(Stage).index(wanted)] != "-"


@pytest.mark.parametrize(("current", "wanted"), [move for move in ALL if is_legal(*move)])
def test_a_legal_move_is_not_refused(current: Stage, wanted: Stage) -> None:
    assert refusal(current, wanted) is None


@pytest.mark.parametrize(("current", "wanted"), [move for move in ALL if not is_legal(*move)])
def test_every_other_move_is_refused_in_one_line(current: Stage, wanted: Stage) -> None:
    said = refusal(current, wanted)
    assert said
    assert "\n" not in said
    assert wanted.value in said


def test_whoever_serves_can_be_demoted_in_one_move() -> None:
    assert all(refusal(stage, Stage.RETIRED) is None for stage in (Stage.SHADOW, Stage.CANARY, Stage.LIVE))


def test_proof_is_asked_of_whoever_serves_anybody() -> None:
    assert [stage for stage in Stage if needs_certificate(stage)] == [Stage.CANARY, Stage.LIVE]


def test_what_the_world_disproved_is_void_and_what_merely_failed_is_not() -> None:
    assert {cause for cause in Cause if cause.voids_certificate} == {
        Cause.BOUND_BROKEN, Cause.DRIFT, Cause.TASK_CHANGED,
    }  # fmt: skip

"""The next step of an SLM: on what it is proposed, and on what it isn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.progress import CANARY_SHARE, ENOUGH_CONVERSATIONS, Standing, next_step
from router.promotion import Stage

PROVED = Standing("triage", Stage.CANDIDATE, is_proved=True, coverage=0.8, figures={"certificate_id": 3})


@pytest.mark.parametrize(
    ("stage", "conversations", "wanted", "share"),
    [
        (Stage.CANDIDATE, 0, Stage.SHADOW, None),
        (Stage.RETIRED, 0, Stage.SHADOW, None),
        (Stage.SHADOW, ENOUGH_CONVERSATIONS - 1, None, None),
        (Stage.SHADOW, ENOUGH_CONVERSATIONS, Stage.CANARY, CANARY_SHARE),
        (Stage.CANARY, ENOUGH_CONVERSATIONS - 1, None, None),
        (Stage.CANARY, ENOUGH_CONVERSATIONS, Stage.LIVE, None),
        (Stage.LIVE, 10_000, None, None),
    ],
)
def test_each_stage_follows_when_the_evidence_is_there(
    stage: Stage, conversations: int, wanted: Stage | None, share: float | None
) -> None:
    proposal = next_step([replace(PROVED, stage=stage, conversations=conversations)])
    assert (proposal and proposal.stage, proposal and proposal.share) == (wanted, share)


@pytest.mark.parametrize("stage", list(Stage))
def test_nothing_is_proposed_without_proof_or_against_whoever_decided_otherwise(stage: Stage) -> None:
    ready = replace(PROVED, stage=stage, conversations=1000)
    assert next_step([replace(ready, is_proved=False)]) is None
    if stage in (Stage.CANDIDATE, Stage.RETIRED):
        assert next_step([replace(ready, has_news=False)]) is None
    else:
        assert next_step([replace(ready, is_forced=True)]) is None
        assert next_step([replace(ready, is_doubted=True)]) is None


def test_a_proposal_says_why_and_on_which_figures() -> None:
    proposal = next_step([replace(PROVED, stage=Stage.SHADOW, conversations=60, failures=1)])
    assert proposal is not None
    assert proposal.reason == "in its shadow: 60 conversations compared, 1 of them disagree, no alarm"
    assert proposal.figures == {"certificate_id": 3, "conversations": 60, "conversations_failed": 1}


def test_of_several_candidates_the_one_that_serves_most_comes_first() -> None:
    proposal = next_step([PROVED, replace(PROVED, model="better", coverage=0.9)])
    assert proposal is not None
    assert proposal.model == "better"


def test_nobody_takes_the_place_of_an_slm_in_force() -> None:
    standing = [replace(PROVED, model="better", coverage=0.9), replace(PROVED, stage=Stage.LIVE)]
    assert next_step(standing) is None
    assert next_step([]) is None


def test_one_that_lost_its_proof_makes_room_for_one_that_has_one() -> None:
    outdated = replace(PROVED, model="old", stage=Stage.SHADOW, is_proved=False, has_lost_proof=True)
    assert next_step([outdated]) is None
    proposal = next_step([outdated, PROVED])
    assert proposal is not None
    assert (proposal.model, proposal.stage) == (PROVED.model, Stage.SHADOW)
    proved_again = replace(outdated, is_proved=True, conversations=ENOUGH_CONVERSATIONS)
    proposal = next_step([proved_again, PROVED])
    assert proposal is not None
    assert (proposal.model, proposal.stage) == ("old", Stage.CANARY)

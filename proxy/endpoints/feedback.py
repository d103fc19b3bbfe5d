"""How answers turned out: from the people and programs that use them."""

from __future__ import annotations

from fastapi import APIRouter

from proxy.endpoints.access import InState, Rater
from proxy.endpoints.calls import parse_id
from proxy.endpoints.schemas import FeedbackGiven, FeedbackShown
from storage.repositories import feedback, registry

router = APIRouter()


@router.post("/feedback", status_code=201)
def give_feedback(given: FeedbackGiven, state: InState, caller: Rater) -> FeedbackShown:
    """Say how a call's answer turned out; the caller's last word on it counts.

    Takes the role operator, or a key for calls: it speaks of its own calls only. Answers with a score below 0 are not
    trained on. Neither promotes nor demotes anything.

    404: no such call (yet: it reaches the log a second or two after its answer), or not the caller's.
    """
    call_id = parse_id(given.call_id)
    with state.database.write() as session:
        kept = feedback.give_feedback(
            session, state.cipher, call_id, caller.name, given.score, given.comment, caller.origin
        )
        registry.audit(session, caller.name, "feedback.given", given.call_id, score=given.score)
    return FeedbackShown.model_validate(kept)

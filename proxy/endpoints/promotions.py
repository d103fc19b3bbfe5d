"""Which SLM serves which task."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from proxy.auth import Role
from proxy.endpoints.access import InState, Operator
from proxy.endpoints.schemas import PromotionShown, PromotionWish
from proxy.errors import Forbidden
from proxy.promotion.moves import Wish, demote_cluster, promote_cluster
from router.promotion import Stage

router = APIRouter()


@router.post("/clusters/{cluster_id}/promotions", status_code=201)
def promote(cluster_id: str, wish: PromotionWish, state: InState, caller: Operator) -> PromotionShown:
    """Promote an SLM for a task; in force on all workers within 5 s, on this one at once.

    404: no such cluster or SLM server. 409: no valid certificate and no `force` (the message names each missing
    figure), the SLM server can't be reached, or the adapter is damaged and can't be restored.
    422: the SLM server does not have the model; the message says what it has.
    """
    if wish.force and caller.role < Role.ADMIN:
        raise Forbidden("force needs the role admin")
    asked = Wish(**(wish.model_dump() | {"stage": Stage(wish.stage)}))
    made = promote_cluster(state.database, state.cipher, state.settings, cluster_id, asked, caller.name)
    state.serving.refresh()
    return PromotionShown.model_validate(made, from_attributes=True)


@router.delete("/clusters/{cluster_id}/promotions/current")
def demote(cluster_id: str, state: InState, caller: Operator) -> PromotionShown:
    """Give a task back to the LLM at once."""
    ended = demote_cluster(state.database, cluster_id, caller.name)
    state.serving.refresh()
    return PromotionShown.model_validate(replace(ended, stage=Stage.RETIRED), from_attributes=True)

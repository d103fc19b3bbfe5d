"""Promote and demote. Before anything happens, a page says what would, in figures."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from proxy.auth import Role
from proxy.console.page import OwnForm, SignedIn, page_router
from proxy.console.render import render
from proxy.endpoints import clusters, promotions
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import ClusterDetails, PromotionWish
from proxy.errors import BadRequest, Conflict, UnderstudyError, Unprocessable
from proxy.promotion.moves import PROMOTABLE, stage_of
from proxy.promotion.proof import Proof, proof_of, subject_today, whereabouts
from proxy.state import State
from router.promotion import Stage, needs_certificate, refusal
from storage.repositories.registry import get_model

router = page_router()

CANARY_SHARE = 0.1
MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a promotion would do, and what stands against it.

    Attributes:
        served: share of the task's calls that the SLM would answer; of those it is sure enough of.
        missing: figures that keep it from going without force.
        refused: why there is no such move; None when there is.
        replaced: the SLM that would be retired.
    """

    wish: PromotionWish
    slm: str | None
    served: float
    proof: Proof
    missing: dict[str, str]
    refused: str | None
    replaced: str | None

    @property
    def lacks(self) -> list[tuple[list[str], str]]:
        """The missing figures, those together of which the same is said."""
        said: dict[str, list[str]] = {}
        for name, what in self.missing.items():
            said.setdefault(what, []).append(name)
        return [(names, what) for what, names in said.items()]


@router.get("/tasks/{cluster_id}/promote")
def ask_to_promote(
    request: Request,
    state: InState,
    session: SignedIn,
    cluster_id: str,
    model: str = "",
    stage: str = "",
    percent: str = "",
) -> Response:
    """Says what a promotion would do."""
    wish = _wish({"model": model, "stage": stage, "percent": percent})
    task = clusters.get_cluster(cluster_id, state, session.caller)
    return _confirm(request, state, session.caller.role, task, wish)


@router.post("/tasks/{cluster_id}/promote")
def promote(request: Request, state: InState, session: SignedIn, cluster_id: str, fields: OwnForm) -> Response:
    """Does it, or says why not."""
    wish = _wish(fields)
    try:
        promotions.promote(cluster_id, wish, state, session.caller)
    except (Conflict, Unprocessable, BadRequest) as error:
        task = clusters.get_cluster(cluster_id, state, session.caller)
        return _confirm(request, state, session.caller.role, task, wish, error)
    return RedirectResponse(f"/tasks/{cluster_id}?done=promoted", 303)


@router.get("/tasks/{cluster_id}/demote")
def ask_to_demote(request: Request, state: InState, session: SignedIn, cluster_id: str) -> Response:
    """Says what a demotion would do."""
    task = clusters.get_cluster(cluster_id, state, session.caller)
    if task.promotion is None:
        return RedirectResponse(f"/tasks/{cluster_id}", 303)
    return render(request, "demote", task=task, promotion=task.promotion)


@router.post("/tasks/{cluster_id}/demote")
def demote(state: InState, session: SignedIn, cluster_id: str, fields: OwnForm) -> Response:
    """Gives the task back to the LLM."""
    promotions.demote(cluster_id, state, session.caller)
    return RedirectResponse(f"/tasks/{cluster_id}?done=demoted", 303)


def _wish(fields: dict[str, str]) -> PromotionWish:
    model, stage = fields.get("model", "").strip(), fields.get("stage", "")
    if not model or len(model) > MAX_CHARS:
        raise BadRequest("which SLM? go back and choose one, or give its name")
    if stage not in {each.value for each in PROMOTABLE}:
        raise BadRequest("to which stage? go back and choose one")
    share = None
    if stage == Stage.CANARY:
        try:
            share = float(fields.get("percent") or 100 * CANARY_SHARE) / 100
        except ValueError as error:
            raise BadRequest("the share is a number of percent, above 0 and at most 100") from error
        if not 0 < share <= 1:
            raise BadRequest("the share is a number of percent, above 0 and at most 100")
    return PromotionWish(
        model=model,
        stage=stage,  # type: ignore[arg-type]  # one of them, as was just seen
        share=share,
        slm=None,
        adapter=None,
        force=fields.get("force") == "yes",
        reason=fields.get("reason", "").strip()[:MAX_CHARS] or None,
        audit_share=None,
    )


def _confirm(
    request: Request,
    state: State,
    role: Role,
    task: ClusterDetails,
    wish: PromotionWish,
    error: UnderstudyError | None = None,
) -> Response:
    return render(
        request,
        "promote",
        status=error.status if error else 200,
        task=task,
        forecast=_forecast(state, task, wish),
        may_force=role >= Role.ADMIN,
        said=str(error) if error else "",
        required=task.missing_proof.required,
    )


def _forecast(state: State, task: ClusterDetails, wish: PromotionWish) -> Forecast:
    stage = Stage(wish.stage)
    with state.database.read() as session:
        slm, adapter = whereabouts(state.settings, get_model(session, wish.model))
        proof = proof_of(
            session, state.settings, subject_today(session, state.cipher, task.id, wish.model, slm, adapter)
        )
        current = stage_of(session, task.id, wish.model)
    share = {Stage.SHADOW: 0.0, Stage.LIVE: 1.0}.get(stage, wish.share or CANARY_SHARE)
    starts_again = current is Stage.RETIRED  # a retired SLM becomes a candidate first, by the same wish
    before = task.promotion
    return Forecast(
        wish=wish,
        slm=slm,
        served=share * (proof.certificate.coverage if proof.certificate else 1.0),
        proof=proof,
        missing=proof.missing if needs_certificate(stage) else {},
        refused=None if starts_again else refusal(current, stage),
        replaced=before.model if before and before.model != wish.model else None,
    )

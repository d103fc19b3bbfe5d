"""The discovered tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from proxy.endpoints.access import InState, Viewer
from proxy.endpoints.schemas import (
    CertificateShown,
    Cluster,
    ClusterDetails,
    EconomicsShown,
    ListOf,
    MissingProof,
    ModelEntry,
    OpinionShown,
    PastPromotion,
    PromotionShown,
    ProposalShown,
    Shares,
    StageMove,
)
from proxy.errors import Conflict
from proxy.money.economics import Economics, economics_of
from proxy.promotion.autopilot import proposal_for
from proxy.promotion.moves import in_force
from proxy.promotion.proof import proof_of, subject_today, whereabouts
from proxy.runs.wanting import can_train, trainable, tried_tasks
from proxy.state import State
from router.certificate import Certificate, CertificateInvalid
from router.progress import Autopilot
from router.promotion import Promotion
from storage.database import ReadSession
from storage.errors import DatabaseDown
from storage.models import CertificateRow, ModelRow
from storage.repositories import certificates, clusters, moves, promotions, registry
from storage.repositories.calls import Totals, totals
from storage.repositories.clusters import StoredCluster
from storage.repositories.feedback import opinions_of_slms

router = APIRouter()


@router.get("/clusters")
def list_clusters(state: InState, caller: Viewer) -> ListOf[Cluster]:
    """The tasks of the snapshot in force, largest first."""
    with state.database.read() as session:
        rows = clusters.list_clusters(session, state.cipher)
        sums = totals(session)
        models = registry.list_models(session)
        current = in_force(session)
        proved = certificates.newest_certificates(session)
    whole = Whole.of(sums)
    own = {total.key: total for total in sums}
    return ListOf(
        data=[show(row, own.get(row.cluster_id), whole, current.get(row.cluster_id), models, proved) for row in rows]
    )


@router.get("/clusters/{cluster_id}")
def get_cluster(cluster_id: str, state: InState, caller: Viewer) -> ClusterDetails:
    """One task: its skeleton, examples, candidates, certificates, and all its promotions and moves between stages."""
    with state.database.read() as session:
        row = clusters.get_cluster(session, state.cipher, cluster_id)
        sums = totals(session)
        past = promotions.history(session, cluster_id)
        steps = moves.list_moves(session, cluster_id)
        models = registry.list_models(session)
        current = in_force(session).get(cluster_id)
        proved = certificates.list_certificates(session, cluster_id)
        missing = _missing_proof(session, state, cluster_id, current, proved)
        proposal = proposal_for(session, state.cipher, state.settings, cluster_id)
        opinions = opinions_of_slms(session, cluster_id)
        economics = economics_of(session, state.settings).get(cluster_id)
        training = _training(session, state, row, economics)
    own = next((total for total in sums if total.key == cluster_id), None)
    shown = show(row, own, Whole.of(sums), current, models, proved)
    return ClusterDetails(
        **dict(shown),
        skeleton=row.skeleton,
        examples=row.examples,
        promotions=[PastPromotion.model_validate(promotion) for promotion in past],
        moves=[StageMove.model_validate(step) for step in steps],
        certificates=[found for found in map(_certificate, proved) if found],
        missing_proof=missing,
        proposal=ProposalShown.model_validate(proposal) if proposal else None,
        feedback=[OpinionShown.model_validate(opinion) for opinion in opinions],
        training=training,
        economics=EconomicsShown.model_validate(economics) if economics else None,
    )


def _training(session: ReadSession, state: State, task: StoredCluster, money: Economics | None) -> str | None:
    """Why an SLM should be trained for a task, or another one; None where that isn't so."""
    if money is None or not money.pays or state.settings.autopilot is Autopilot.OFF or not can_train(state.settings):
        return None
    try:
        tried = tried_tasks(state.runs)
    except (Conflict, DatabaseDown):  # of the runs: the task can be shown without
        return None
    known = trainable(session, state.cipher, state.settings, task, money, tried.get(task.cluster_id))
    if not known.wants_slm:
        return None
    count = f"{known.conversations:,} conversations"
    if known.last_try is not None:
        since = "what was proved no longer held" if known.last_try.llm_changed else "the last try"
        count = f"some {known.last_try.came:,} conversations since {since}"
    return (
        f"{count} may do to train and to prove on, if hardly any answer differs, and its "
        f"{known.calls_per_month:,.0f} calls a month are above break-even"
    )


def _missing_proof(
    session: ReadSession, state: State, cluster_id: str, current: Promotion | None, proved: Sequence[CertificateRow]
) -> MissingProof:
    """What the SLM lacks whose certificate is shown; of no SLM where there is neither promotion nor certificate."""
    model = current.model if current else proved[0].model if proved else None
    known = registry.get_model(session, model) if model else None
    slm, adapter = (current.slm, current.adapter) if current else whereabouts(state.settings, known)
    subject = subject_today(session, state.cipher, cluster_id, model or "", slm, adapter)
    missing = proof_of(session, state.settings, subject).missing
    required = {"risk": state.settings.risk, "confidence": state.settings.confidence}
    return MissingProof(model=model, missing=list(missing), figures=missing, required=required)


def _certificate(row: CertificateRow) -> CertificateShown | None:
    """None where it can't be read: such a one proves nothing."""
    try:
        certificate = Certificate.from_json(row.content)
    except CertificateInvalid:
        return None
    figures = certificate.to_json() | {"passes": certificate.passes}
    return CertificateShown(id=row.certificate_id, model=row.model, **figures)


@dataclass(frozen=True, slots=True)
class Whole:
    """Sums over the log, for shares."""

    calls: int
    tokens: int
    cost_usd: float

    @classmethod
    def of(cls, sums: Iterable[Totals]) -> Whole:
        """Add the groups up."""
        groups = list(sums)
        return cls(
            sum(total.calls for total in groups),
            sum(total.input_tokens + total.output_tokens for total in groups),
            sum(total.cost_usd for total in groups),
        )


def show(
    row: StoredCluster,
    own: Totals | None,
    whole: Whole,
    current: Promotion | None,
    models: Sequence[ModelRow],
    proved: Sequence[CertificateRow],
) -> Cluster:
    """A cluster as the API gives it.

    Args:
        own: the cluster's sums; None when none of its calls is in the log.
        current: its promotion in force.
        proved: certificates, newest first, of other clusters too.
    """
    its = (each for each in proved if each.cluster_id == row.cluster_id)
    newest = next((each for each in its if current is None or each.model == current.model), None)
    tokens = own.input_tokens + own.output_tokens if own else 0
    cost_usd = own.cost_usd if own else 0.0
    calls = own.calls if own else 0
    return Cluster(
        id=row.cluster_id,
        label=row.label,
        contract=row.contract,
        calls=calls,
        slm_calls=own.slm_calls if own else 0,
        tokens=tokens,
        cost_usd=cost_usd,
        share=Shares(
            calls=_share(calls, whole.calls), tokens=_share(tokens, whole.tokens), cost=_share(cost_usd, whole.cost_usd)
        ),
        stage=current.stage if current else None,
        promotion=PromotionShown.model_validate(current, from_attributes=True) if current else None,
        certificate=_certificate(newest) if newest else None,
        candidates=[ModelEntry.model_validate(model, from_attributes=True) for model in models],
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""The discovered tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from proxy.endpoints.access import InState, Viewer
from proxy.endpoints.schemas import (
    Cluster,
    ClusterDetails,
    ListOf,
    MissingProof,
    ModelEntry,
    PastPromotion,
    PromotionShown,
    Shares,
)
from proxy.promotions import in_force, missing_proof
from router.promotion import Promotion
from storage.models import ModelRow
from storage.repositories import clusters, promotions, registry
from storage.repositories.calls import Totals, totals
from storage.repositories.clusters import StoredCluster

router = APIRouter()


@router.get("/clusters")
def list_clusters(state: InState, caller: Viewer) -> ListOf[Cluster]:
    """The tasks of the snapshot in force, largest first."""
    with state.database.read() as session:
        rows = clusters.list_clusters(session, state.cipher)
        sums = totals(session)
        models = registry.list_models(session)
        current = in_force(session)
    whole = Whole.of(sums)
    own = {total.key: total for total in sums}
    return ListOf(data=[show(row, own.get(row.cluster_id), whole, current.get(row.cluster_id), models) for row in rows])


@router.get("/clusters/{cluster_id}")
def get_cluster(cluster_id: str, state: InState, caller: Viewer) -> ClusterDetails:
    """One task: its skeleton, examples, candidates, and all its promotions."""
    with state.database.read() as session:
        row = clusters.get_cluster(session, state.cipher, cluster_id)
        sums = totals(session)
        past = promotions.history(session, cluster_id)
        models = registry.list_models(session)
        current = in_force(session).get(cluster_id)
    own = next((total for total in sums if total.key == cluster_id), None)
    shown = show(row, own, Whole.of(sums), current, models)
    return ClusterDetails(
        **dict(shown),
        skeleton=row.skeleton,
        examples=row.examples,
        promotions=[PastPromotion.model_validate(promotion) for promotion in past],
        certificate=None,
        missing_proof=MissingProof(**missing_proof(state.settings)),
    )


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
    row: StoredCluster, own: Totals | None, whole: Whole, current: Promotion | None, models: Sequence[ModelRow]
) -> Cluster:
    """A cluster as the API gives it.

    Args:
        own: the cluster's sums; None when none of its calls is in the log.
        current: its promotion in force.
    """
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
        candidates=[ModelEntry.model_validate(model, from_attributes=True) for model in models],
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

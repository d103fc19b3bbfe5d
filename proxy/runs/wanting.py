"""Which tasks want an SLM, by what the log, the certificates and the queue of runs know. The schedule trains for them
where the autopilot is on; the admin API and the console say so where it proposes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from proxy.money.economics import Economics
from proxy.runs.queue import RunKind, Runs
from proxy.runs.schedule import Trainable
from proxy.settings import Settings
from storage.database import ReadSession
from storage.repositories.certificates import newest_certificates
from storage.repositories.clusters import cluster_sizes
from storage.repositories.promotions import current_promotions

_REMEMBERED_RUNS = 500


def can_train(settings: Settings) -> bool:
    """Whether training has a sense at all: something serves SLMs, and the LLM's answers may be learned from."""
    return bool(settings.slm_url) and settings.upstream_allows_training


def tried_tasks(runs: Runs) -> set[str | None]:
    """Tasks that a run has trained for, or is to.

    Raises:
        DatabaseDown
    """
    return {run.wish.cluster for run in runs.list_runs(limit=_REMEMBERED_RUNS) if run.wish.kind is RunKind.TRAIN}


def trainable_tasks(
    session: ReadSession, economics: Mapping[str, Economics], tried: Collection[str | None]
) -> list[Trainable]:
    """What is known of every task that `economics` knows."""
    sizes = cluster_sizes(session)
    served = {row.cluster_id for row in current_promotions(session)}
    served |= {row.cluster_id for row in newest_certificates(session)}
    return [
        Trainable(
            cluster_id,
            sizes[cluster_id],
            money.calls_per_month,
            has_slm=cluster_id in served,
            was_tried=cluster_id in tried,
            pays=money.pays,
        )
        for cluster_id, money in economics.items()
        if cluster_id in sizes
    ]

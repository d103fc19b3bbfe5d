"""Which tasks want an SLM, by what the log, the certificates and the queue of runs know. The schedule trains for them
where the autopilot is on; the admin API and the console say so where it proposes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from proxy.money.economics import Economics
from proxy.runs.queue import RunKind, Runs
from proxy.runs.schedule import Trainable
from proxy.settings import Settings
from router.contract import ContractKind
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.repositories.certificates import newest_certificates
from storage.repositories.clusters import list_clusters
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
    session: ReadSession,
    cipher: Cipher,
    settings: Settings,
    economics: Mapping[str, Economics],
    tried: Collection[str | None],
) -> list[Trainable]:
    """What is known of every task that `economics` knows.

    Raises:
        Undecipherable: the tasks were learned with another key.
    """
    tasks = {row.cluster_id: row for row in list_clusters(session, cipher)}
    served = {row.cluster_id for row in current_promotions(session)}
    served |= {row.cluster_id for row in newest_certificates(session)}
    return [
        Trainable(
            cluster_id,
            tasks[cluster_id].conversations,
            money.calls_per_month,
            has_slm=cluster_id in served,
            was_tried=cluster_id in tried,
            pays=money.pays,
            can_be_proved=tasks[cluster_id].contract.get("kind") != ContractKind.TEXT
            or settings.judge_model is not None,
        )
        for cluster_id, money in economics.items()
        if cluster_id in tasks
    ]

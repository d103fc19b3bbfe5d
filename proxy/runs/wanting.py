"""Which tasks want an SLM, by what the log, the certificates and the queue of runs know.

The schedule trains for them where the autopilot is on; the admin API and the console say so where it proposes.
"""

from __future__ import annotations

from proxy.money.economics import Economics, economics_of
from proxy.runs.queue import RunKind, Runs
from proxy.runs.schedule import Trainable
from proxy.settings import Settings
from router.contract import ContractKind
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.repositories.certificates import newest_certificates
from storage.repositories.clusters import StoredCluster, list_clusters
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


def trainable(
    task: StoredCluster, money: Economics, settings: Settings, *, has_slm: bool, was_tried: bool
) -> Trainable:
    """What is known of a task."""
    is_text = task.contract.get("kind") == ContractKind.TEXT
    return Trainable(
        task.cluster_id,
        task.conversations,
        money.calls_per_month,
        has_slm=has_slm,
        was_tried=was_tried,
        pays=money.pays,
        can_be_proved=not is_text or settings.judge_model is not None,
    )


def trainable_tasks(session: ReadSession, cipher: Cipher, settings: Settings, runs: Runs) -> list[Trainable]:
    """What is known of every task that has calls in the log.

    Raises:
        Undecipherable: the tasks were learned with another key.
        DatabaseDown: that of the runs.
    """
    tried, economics = tried_tasks(runs), economics_of(session, settings)
    served = {row.cluster_id for row in current_promotions(session)}
    served |= {row.cluster_id for row in newest_certificates(session)}
    return [
        trainable(
            task,
            economics[task.cluster_id],
            settings,
            has_slm=task.cluster_id in served,
            was_tried=task.cluster_id in tried,
        )
        for task in list_clusters(session, cipher)
        if task.cluster_id in economics
    ]

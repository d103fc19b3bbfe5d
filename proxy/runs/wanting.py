"""Which tasks want an SLM, by what the log, the certificates and the queue of runs know.

The schedule trains for them where the autopilot is on; the admin API and the console say so where it proposes.
"""

from __future__ import annotations

from datetime import datetime

from proxy.money.economics import Economics, economics_of
from proxy.promotion.autopilot import has_lost_proof
from proxy.promotion.proof import llm_changed_at, proof_of, subject_today, whereabouts
from proxy.runs.queue import RunKind, Runs
from proxy.runs.schedule import LastTry, Trainable
from proxy.settings import Settings
from router.contract import ContractKind
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.repositories.calls import count_taught
from storage.repositories.certificates import list_certificates
from storage.repositories.clusters import StoredCluster, list_clusters
from storage.repositories.promotions import current_promotion
from storage.repositories.registry import get_model

_REMEMBERED_RUNS = 500


def can_train(settings: Settings) -> bool:
    """Whether training has a sense at all: something serves SLMs, and the LLM's answers may be learned from."""
    return bool(settings.slm_url) and settings.upstream_allows_training


def tried_tasks(runs: Runs) -> dict[str, datetime]:
    """When a run was last asked to train for a task, by its id.

    Raises:
        Conflict: what runs need is not installed.
        DatabaseDown
    """
    tried: dict[str, datetime] = {}
    for run in runs.list_runs(limit=_REMEMBERED_RUNS):
        if run.wish.kind is RunKind.TRAIN and run.wish.cluster is not None:
            tried.setdefault(run.wish.cluster, run.created_at)  # the newest comes first
    return tried


def trainable(
    session: ReadSession,
    cipher: Cipher,
    settings: Settings,
    task: StoredCluster,
    money: Economics,
    tried_at: datetime | None,
) -> Trainable:
    """What is known of a task.

    Args:
        tried_at: when a run was asked to train for it.

    Raises:
        Undecipherable: the task was learned with another key.
    """
    is_text = task.contract.get("kind") == ContractKind.TEXT
    return Trainable(
        task.cluster_id,
        task.conversations,
        money.calls_per_month,
        has_slm=_has_slm(session, cipher, settings, task.cluster_id),
        last_try=_last_try(session, task, tried_at),
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
    return [
        trainable(session, cipher, settings, task, economics[task.cluster_id], tried.get(task.cluster_id))
        for task in list_clusters(session, cipher)
        if task.cluster_id in economics
    ]


def _has_slm(session: ReadSession, cipher: Cipher, settings: Settings, cluster_id: str) -> bool:
    current = current_promotion(session, cluster_id)
    if current is not None and not has_lost_proof(session, current):
        return True
    for model in {row.model for row in list_certificates(session, cluster_id)}:
        slm, adapter = whereabouts(settings, get_model(session, model))
        if not proof_of(session, settings, subject_today(session, cipher, cluster_id, model, slm, adapter)).missing:
            return True
    return False


def _last_try(session: ReadSession, task: StoredCluster, tried_at: datetime | None) -> LastTry | None:
    """By the runs, and by the certificates: an SLM that was trained elsewhere was a try too."""
    issued = [row.issued_at for row in list_certificates(session, task.cluster_id)[:1]]
    tries = [*issued, *([tried_at] if tried_at else [])]
    if not tries:
        return None
    tried_at, changed_at = max(tries), llm_changed_at(session, task.cluster_id)
    llm_changed = changed_at is not None and changed_at > tried_at
    came = count_taught(session, task.cluster_id, changed_at if llm_changed else tried_at)
    had = count_taught(session, task.cluster_id, changed_at) - came
    of_calls = task.conversations / task.calls if task.calls else 1.0
    return LastTry(round(had * of_calls), round(came * of_calls), llm_changed)

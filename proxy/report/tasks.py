"""The tasks in force, with what is proved and promoted today; and the report on all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.money.economics import Economics, economics_of
from proxy.promotion.moves import in_force
from proxy.promotion.proof import proof_of, subject_today, whereabouts
from proxy.report.reading import read_log
from proxy.report.replaceable import KnownTask, Report, report
from proxy.settings import Settings
from router.contract import ContractKind, OutputContract
from router.promotion import Promotion
from storage.cipher import Cipher
from storage.database import Database, ReadSession
from storage.models import CertificateRow
from storage.repositories.certificates import newest_certificates
from storage.repositories.clusters import StoredCluster, list_clusters
from storage.repositories.registry import get_model
from storage.repositories.state import active_snapshot_id


@dataclass(frozen=True, slots=True)
class LogReport:
    """A report, and whether tasks were looked for at all before it."""

    report: Report
    is_learned: bool


def report_on_log(database: Database, cipher: Cipher, settings: Settings, progress: Callable[[str], None]) -> LogReport:
    """Read the log and work it out.

    Args:
        progress: told `stage: how far`.

    Raises:
        Undecipherable: the log, or its tasks, are of another key.
        DatabaseDown: it can't be read.
    """
    with database.read() as session:
        clusters = list_clusters(session, cipher)
        contracts = {cluster.cluster_id: OutputContract.from_json(cluster.contract) for cluster in clusters}
        reading = read_log(session, cipher, contracts, progress)
        promotions, proved = in_force(session), newest_certificates(session)
        economics = economics_of(session, settings)
        known = [
            replace(
                _known(session, cipher, settings, cluster, promotions.get(cluster.cluster_id), proved),
                economics=_told(economics.get(cluster.cluster_id)),
            )
            for cluster in clusters
        ]
        is_learned = active_snapshot_id(session) is not None
    return LogReport(report(reading, known, settings.risk, settings.confidence), is_learned)


def _told(economics: Economics | None) -> Economics | None:
    """None where it would only say that what costs nothing pays: nobody gave a price for serving or training."""
    if economics is None:
        return None
    costs = (economics.slm_usd_per_call, economics.training_usd, economics.running_usd_per_month)
    return economics if any(costs) else None


def _known(
    session: ReadSession,
    cipher: Cipher,
    settings: Settings,
    cluster: StoredCluster,
    promotion: Promotion | None,
    proved: list[CertificateRow],
) -> KnownTask:
    """A task with the first of its newest certificates that holds today: of the promoted SLM before all others."""
    models = [row.model for row in proved if row.cluster_id == cluster.cluster_id]
    if promotion is not None and promotion.model in models:
        models.sort(key=lambda model: model != promotion.model)
    kind = ContractKind(cluster.contract["kind"])
    stage = promotion.stage.value if promotion else None
    for model in models:
        is_promoted = promotion is not None and promotion.model == model
        where = (promotion.slm, promotion.adapter) if promotion and is_promoted else None
        slm, adapter = where or whereabouts(settings, get_model(session, model))
        subject = subject_today(session, cipher, cluster.cluster_id, model, slm, adapter)
        proof = proof_of(session, settings, subject)
        if proof.certificate is not None and not proof.missing:
            return KnownTask(
                cluster.cluster_id, cluster.label, kind, proof.certificate, stage if is_promoted else None, model
            )
    return KnownTask(cluster.cluster_id, cluster.label, kind, None, stage, promotion.model if promotion else None)

"""What is proved of an SLM on a task, as both are today: promotions are granted on it, and the admin API shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import structlog

from proxy.settings import Settings
from router.certificate import Certificate, CertificateInvalid, Subject, shortfall
from router.promotion import Cause
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.models import ModelRow, StageMoveRow
from storage.repositories.calls import reported_models
from storage.repositories.certificates import newest_certificate
from storage.repositories.clusters import get_cluster
from storage.repositories.moves import list_moves
from storage.repositories.registry import get_model

log = structlog.get_logger()

_VOIDING = tuple(cause.value for cause in Cause if cause.voids_certificate)
_OF_THE_LLM = (Cause.BOUND_BROKEN.value, Cause.UNPROVED.value)
_SHOWN = ("n", "failures", "disagreement_bound", "coverage", "threshold", "alpha", "delta", "source", "data_hash")


@dataclass(frozen=True, slots=True)
class Proof:
    """Where an SLM stands on a task.

    Attributes:
        certificate: the newest, passing or not; None when there is none that can be read.
        certificate_id: its number.
        missing: what keeps the SLM from serving, as `router.certificate.shortfall` gives it. Empty when nothing does.
    """

    certificate: Certificate | None
    certificate_id: int | None
    missing: dict[str, str]

    @property
    def min_confidence(self) -> float | None:
        """How sure an answer must be to be served on this proof; None when there is nothing to serve on."""
        if self.certificate is None or self.missing:
            return None
        return self.certificate.threshold or 0.0

    def figures(self) -> dict[str, Any]:
        """What a promotion is granted, or forced, on: for its row."""
        known = {name: getattr(self.certificate, name) for name in _SHOWN} if self.certificate else {}
        return {"certificate_id": self.certificate_id} | known | ({"missing": self.missing} if self.missing else {})


def whereabouts(
    settings: Settings, known: ModelRow | None, slm: str | None = None, adapter: str | None = None
) -> tuple[str | None, str | None]:
    """The SLM server and the adapter that are meant: those named, else those registered, else the only server."""
    only = next(iter(settings.slm_url)) if len(settings.slm_url) == 1 else None
    return slm or (known.slm if known else only), adapter or (known.adapter if known else None)


def subject_today(
    session: ReadSession, cipher: Cipher, cluster_id: str, model: str, slm: str | None, adapter: str | None
) -> Subject:
    """What a certificate of an SLM on a task has to speak of to count today.

    Weights are known by the hash that they were registered with. A model that nobody registered, or one with another
    adapter than it was registered with, is known by its server, name and adapter.

    Raises:
        NotFound: there is no such task.
        Undecipherable: the task was learned with another key.
    """
    cluster = get_cluster(session, cipher, cluster_id)
    known = get_model(session, model)
    registered = known.weights if known and known.adapter == adapter else None
    form = {name: value for name, value in cluster.contract.items() if name != "support"}  # grows with every call
    return Subject(
        cluster_id=cluster_id,
        model=model,
        weights=registered or _digest([slm, model, adapter]),
        skeleton=_digest(cluster.skeleton),
        contract=_digest(form),
        teacher=" + ".join(reported_models(session, cluster_id)),
    )


def proof_of(session: ReadSession, settings: Settings, subject: Subject) -> Proof:
    """What is proved of `subject`, and what it still lacks."""
    row = newest_certificate(session, subject.cluster_id, subject.model)
    certificate = None
    if row is not None:
        try:
            certificate = Certificate.from_json(row.content)
        except CertificateInvalid as error:
            log.warning("certificate.unreadable", certificate=row.certificate_id, error=str(error))
    now, delta = datetime.now(UTC), round(1 - settings.confidence, 12)
    missing = shortfall(certificate, subject, alpha=settings.risk, delta=delta, now=now)
    if certificate is not None:
        missing |= _void_since(session, certificate, subject)
        if certificate.threshold is not None and not 0 <= certificate.threshold <= 1:
            missing["threshold"] = f"{certificate.threshold:g}, must be a mean token probability"
    return Proof(certificate, row.certificate_id if row else None, missing)


def voided_at(session: ReadSession, cluster_id: str, model: str) -> datetime | None:
    """When the world last disproved what was proved of an SLM on a task: what it did before proves nothing."""
    void = _void(session, cluster_id, model)
    return void.at if void else None


def llm_changed_at(session: ReadSession, cluster_id: str) -> datetime | None:
    """When the LLM was last seen to answer a task otherwise than before; what it said earlier teaches nothing.

    It names another model, or an SLM that was proved to agree with it does so no longer.
    """
    changes = (
        move.at
        for move in list_moves(session, cluster_id, _OF_THE_LLM)
        if (_was_proved(move) if move.cause == Cause.BOUND_BROKEN else _names_teacher(move.figures))
    )
    return next(changes, None)


def _void(session: ReadSession, cluster_id: str, model: str) -> StageMoveRow | None:
    """What last disproved an SLM: its own end, or that of another that was proved by the same LLM and traffic."""
    moves = list_moves(session, cluster_id, _VOIDING)
    return next((move for move in moves if move.model == model or _was_proved(move)), None)


def _was_proved(move: StageMoveRow) -> bool:
    """Whether what a move disproves was ever proved. Who was forced to serve and fails, says nothing of others."""
    return move.cause != Cause.BOUND_BROKEN or move.figures.get("certificate_id") is not None


def _names_teacher(figures: dict[str, Any]) -> bool:
    return "teacher" in figures or "teacher" in (figures.get("missing") or {})


def _void_since(session: ReadSession, certificate: Certificate, subject: Subject) -> dict[str, str]:
    """A broken bound, or drift, is not mended by proving once more what held before it."""
    void = _void(session, subject.cluster_id, subject.model)
    if void is None or certificate.evidence_from > void.at:
        return {}
    began = certificate.evidence_from.isoformat(timespec="seconds")
    return {"evidence_from": f"{began}, must be after {void.at.isoformat(timespec='seconds')} ({void.cause})"}


def _digest(value: object) -> str:
    written = json.dumps(value, sort_keys=True)  # ASCII: lone surrogates are escaped
    return blake2b(written.encode(), digest_size=16).hexdigest()

"""A certificate from the shadow: live calls that an SLM answered beside the LLM, as many as it takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import structlog

from proxy.promotion.proof import proof_of, subject_today
from proxy.proving.comparison import standard_of
from proxy.settings import Settings
from proxy.watch.judging import Judge
from proxy.watch.watched import Watched
from router.certificate import Certificate, CertificateInvalid, JudgeError, Subject
from router.learning.proof.certification import Provenance, certify
from router.learning.proof.judge import UNMEASURED
from router.promotion import Stage
from storage.cipher import Cipher
from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.repositories.certificates import add_certificate, list_certificates

log = structlog.get_logger()


def certify_shadow(session: WriteSession, settings: Settings, cipher: Cipher, judge: Judge, one: Watched) -> None:
    """Draw one up for an SLM in the shadow that has none that holds, as soon as the evidence suffices.

    It is looked at after every copy, which its bound allows. The threshold is that of the SLM's last certificate, for
    it has to be chosen elsewhere; without one every answer is served.
    """
    promotion = one.promotion
    if promotion.stage != Stage.SHADOW:
        return
    try:
        subject = subject_today(
            session, cipher, promotion.cluster_id, promotion.model, promotion.slm, promotion.adapter
        )
    except NotFound:
        return  # the task is gone, and the promotion ends soon
    if one.subject != (today := _as_json(subject)):  # of another LLM, say: that is other evidence
        if one.subject:
            one.copies = []
        one.subject = today
    standard = standard_of(settings)
    if len(one.copies) < (standard.needed() or 0):
        return
    proof = proof_of(session, settings, subject)
    if not proof.missing:
        return
    made = [datetime.fromisoformat(at) for _, _, _, at in one.copies]
    comparison = judge.comparison(session, promotion.cluster_id)
    if comparison.errs:  # as measured on the log, by the last `evaluate`
        standard = replace(standard, judge=measured_error(session, promotion.cluster_id, comparison.of_task.name))
        if standard.judge is UNMEASURED:
            return
    certificate = certify(
        subject,
        one.evidence(),
        Provenance("shadow", made[0], made[-1], len(list_certificates(session, promotion.cluster_id)) + 1),
        proof.certificate.threshold if proof.certificate else None,
        standard,
        comparator=comparison.of_task.name,
        issued_at=datetime.now(UTC),
    )
    if certificate.passes:
        row = add_certificate(
            session, promotion.cluster_id, promotion.model, certificate.issued_at, certificate.to_json()
        )
        log.info(
            "certificate.drawn_up", cluster=promotion.cluster_id, model=promotion.model, source="shadow",
            certificate=row.certificate_id, n=certificate.n, failures=certificate.failures,
        )  # fmt: skip


def measured_error(session: ReadSession, cluster_id: str, comparator: str) -> JudgeError:
    """The error of a task's comparator as it was last measured; unmeasured where it never was."""
    for row in list_certificates(session, cluster_id):
        try:
            certificate = Certificate.from_json(row.content)
        except CertificateInvalid:
            continue
        if certificate.comparator == comparator and certificate.judge is not None and certificate.judge.is_measured:
            return certificate.judge
    return UNMEASURED


def _as_json(subject: Subject) -> dict[str, str]:
    return {name: getattr(subject, name) for name in Subject.__struct_fields__}

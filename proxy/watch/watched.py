"""What is known of one promotion in force: its audit, and what it said in the shadow of the LLM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import nan
from typing import Any

import structlog

from proxy.proving.comparison import standard_of
from proxy.settings import Settings
from proxy.watch.judging import Judged
from router.certificate import Certificate, CertificateInvalid
from router.learning.proof.agreement import Outcome, Verdict
from router.learning.proof.audit import Audit, AuditInvalid
from router.learning.proof.evidence import Evidence
from storage.database import ReadSession
from storage.models import PromotionRow, WatchRow
from storage.repositories.certificates import get_certificate
from storage.repositories.watches import get_watch, watch_before

log = structlog.get_logger()

#: Of a shadow's evidence; a certificate that so many do not suffice for never comes.
_MOST_SHADOWED = 2000


@dataclass(slots=True)
class Watched:
    """While it is being added to; `row` is how it is kept."""

    promotion: PromotionRow
    audit: Audit
    conversations: int = 0
    failures: int = 0
    drift: dict[str, Any] | None = None
    subject: dict[str, Any] = field(default_factory=dict)
    copies: list[Any] = field(default_factory=list)

    def take(self, copy: Judged) -> None:
        """Add a copy: to the audit where the SLM served, or could have; to the shadow's evidence in any case."""
        if not copy.is_audit and copy.is_compared and len(self.copies) < _MOST_SHADOWED:
            confidence = copy.confidence if copy.is_served else None
            self.copies.append([copy.conversation, confidence, copy.verdict.outcome.value, copy.at.isoformat()])
        least = self.promotion.min_confidence
        sure = copy.is_audit or least is None or (copy.confidence is not None and copy.confidence >= least)
        if copy.is_served and sure:
            after = self.audit.observe(copy.conversation, copy.verdict.outcome)
            if copy.backend is not None:
                after = after.answered_by(copy.backend)
            self.conversations += after.n - self.audit.n
            self.failures += after.failures - self.audit.failures
            self.audit = after

    def evidence(self) -> Evidence:
        """What the shadow has shown."""
        return Evidence.of_verdicts(
            [nan if confidence is None else confidence for _, confidence, _, _ in self.copies],
            [Verdict(Outcome(outcome), "") for _, _, outcome, _ in self.copies],
            [conversation for conversation, _, _, _ in self.copies],
        )

    def row(self) -> WatchRow:
        """As it is kept."""
        return WatchRow(
            promotion_id=self.promotion.promotion_id,
            cluster_id=self.promotion.cluster_id,
            conversations=self.conversations,
            failures=self.failures,
            audit=self.audit.to_json(),
            drift=self.drift,
            shadow={"subject": self.subject, "copies": self.copies},
            updated_at=datetime.now(UTC),
        )


def watched(session: ReadSession, settings: Settings, promotion: PromotionRow) -> Watched:
    """What is known of a promotion; what its SLM did before on the same certificate counts on."""
    row = get_watch(session, promotion.promotion_id)
    audit = _audit(row or watch_before(session, promotion)) or _new_audit(session, settings, promotion)
    if row is None:
        return Watched(promotion, audit)
    return Watched(
        promotion, audit, row.conversations, row.failures, row.drift, row.shadow["subject"], row.shadow["copies"]
    )


def granted_on(session: ReadSession, promotion: PromotionRow) -> Certificate | None:
    """The certificate of a promotion; None where it has none that can be read."""
    row = get_certificate(session, promotion.certificate_id) if promotion.certificate_id is not None else None
    try:
        return Certificate.from_json(row.content) if row is not None else None
    except CertificateInvalid:
        return None


def _audit(kept: WatchRow | None) -> Audit | None:
    try:
        return Audit.from_json(kept.audit) if kept is not None else None
    except AuditInvalid as error:
        log.warning("watch.unreadable", promotion=kept.promotion_id if kept else None, error=str(error))
        return None


def _new_audit(session: ReadSession, settings: Settings, promotion: PromotionRow) -> Audit:
    certificate, plain = granted_on(session, promotion), standard_of(settings)
    corrected = replace(plain, judge=certificate.judge) if certificate else plain
    # A comparator that nobody measured, or that rejects everything, could break no promise: its word is then taken.
    return Audit.start(certificate, corrected if corrected.limit < 1 else plain)

"""Drawing up a certificate: what held-out calls, or shadow traffic, prove about the calls that would be served.

On the certification split, which had no part in training or in choosing the threshold, exact bounds at one look: 59
conversations without a failure certify 5 % at 95 %, 93 with one, 124 with two. Shadow traffic grows while it is looked
at, so its bound is one that holds at every look: 81, 139 and 184.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from router.certificate import Certificate, SelfAgreement, Subject
from router.learning.proof.bounds import interval
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard

#: A world that nobody looked at for so long may be another one. The audit renews the evidence, not the certificate.
LIFETIME = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the evidence comes from.

    Attributes:
        source: held-out calls of the log, or shadow traffic.
        first_call_at, last_call_at: aware.
        attempt: the how-manieth model or threshold this is that is certified on the task, from 1.
    """

    source: Literal["holdout", "shadow"]
    first_call_at: datetime
    last_call_at: datetime
    attempt: int = 1


def certify(
    subject: Subject,
    evidence: Evidence,
    provenance: Provenance,
    threshold: float | None,
    standard: Standard,
    *,
    comparator: str,
    issued_at: datetime,
    ceiling: SelfAgreement | None = None,
    lifetime: timedelta = LIFETIME,
) -> Certificate:
    """Draw up the certificate, passing or not; its cost is that of sorting the evidence.

    Args:
        subject: what is certified.
        evidence: calls that had no part in training the SLM or in choosing `threshold`, oldest first.
        provenance: of the evidence.
        threshold: as `thresholds.py` chose it.
        standard: of proof, before the number of attempts and the kind of evidence are taken into account.
        comparator: what counted as agreement.
        issued_at: aware.
        ceiling: the LLM's agreement with itself on repeated requests of this cluster.
        lifetime: how long the certificate is good for.

    Raises:
        ValueError: a threshold that is no number; an attempt below 1.
    """
    if threshold is not None and not abs(threshold) < float("inf"):
        raise ValueError(f"threshold {threshold} is no number; None serves all calls")
    growing = provenance.source == "shadow"
    standard = replace(standard, anytime=growing).for_attempt(provenance.attempt)
    sample = evidence.first_per_conversation() if growing else evidence.one_per_conversation()
    served, every = sample.served(threshold), evidence.served(threshold)
    n, failures = len(served), int(served.failed.sum())
    low, high = interval(n, len(sample), standard.delta)
    floor_low = floor_high = excess = None
    if ceiling is not None:
        once = replace(standard, anytime=False)
        floor_low = float(once.floor(ceiling.disagreements, ceiling.pairs, share=0.5))
        floor_high = float(once.bound(ceiling.disagreements, ceiling.pairs, share=0.5))
        excess = float(standard.bound(failures, n, share=0.5)) - floor_low
    return Certificate(
        subject=subject,
        comparator=comparator,
        judge=standard.judge,
        source=provenance.source,
        attempt=provenance.attempt,
        data_hash=evidence.digest,
        evidence_from=provenance.first_call_at,
        evidence_until=provenance.last_call_at,
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
        alpha=standard.alpha,
        delta=standard.delta,
        threshold=threshold,
        conversations=len(sample),
        n=n,
        failures=failures,
        incomparable=int(served.incomparable.sum()),
        disagreement_bound=float(standard.bound(failures, n)),
        coverage=n / len(sample) if len(sample) else 0.0,
        coverage_low=low,
        coverage_high=high,
        calls=len(every),
        calls_failed=int(every.failed.sum()),
        needed=standard.needed(failures),
        ceiling=ceiling,
        ceiling_low=floor_low,
        ceiling_high=floor_high,
        excess_bound=excess,
        method=_in_words(standard, provenance.attempt, ceiling is not None),
    )


def _in_words(standard: Standard, attempt: int, with_ceiling: bool) -> str:
    bound = "upper end of a Robbins mixture confidence sequence" if standard.anytime else "exact Clopper–Pearson bound"
    drawn = "the first call" if standard.anytime else "one random call"
    words = [
        f"One-sided {bound} on disagreement among the calls that would be served, at confidence "
        f"{1 - standard.delta:.6g}, from {drawn} of each conversation; calls that can't be compared count as failures; "
        "the threshold was chosen elsewhere."
    ]
    if attempt > 1:
        words.append(f"The confidence is raised because this is attempt {attempt} on the task.")
    if standard.judge is not None and not standard.judge.is_measured:
        words.append("Nobody knows the comparator's error on this task, so nothing is proved.")
    elif standard.judge is not None:
        words.append(
            "Corrected for the comparator's error (Rogan–Gladen at the ends of exact intervals, no credit for "
            "false alarms), measured on "
            f"{standard.judge.disagreements + standard.judge.agreements} pairs of known truth."
        )
    if with_ceiling:
        words.append("The excess over the LLM's disagreement with itself spends half of δ on each side.")
    return " ".join(words)

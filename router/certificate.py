"""The certificate of an SLM on a cluster: what was proved about the calls that would be served, and what is missing.

Only the value, and whether it holds today: whoever grants a promotion needs no more. `router.learning.proof` draws it
up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate speaks of: when one of these changes, it speaks of something else.

    Attributes:
        cluster_id: the task.
        model: name of the SLM or adapter.
        weights: hash of what the SLM server loads: base model and adapter.
        skeleton: hash of the task's skeleton.
        contract: hash of the task's output contract.
        teacher: the LLM that was compared with, as its answers name it: an upstream that answers with another model
            under the same alias is another teacher. One that changes behind the same name is for the audit to notice.
    """

    cluster_id: str
    model: str
    weights: str
    skeleton: str
    contract: str
    teacher: str


class JudgeError(msgspec.Struct, frozen=True, kw_only=True):
    """How often a comparator was wrong, on pairs whose truth is known.

    Attributes:
        disagreements: pairs that truly disagree.
        passed: how many of them it passed.
        agreements: pairs that truly agree.
        rejected: how many of them it rejected.
    """

    disagreements: int
    passed: int
    agreements: int
    rejected: int

    @property
    def is_measured(self) -> bool:
        """Whether there were pairs of both kinds."""
        return self.disagreements > 0 and self.agreements > 0


class SelfAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """How often the LLM disagrees with itself: the ceiling over anybody's agreement with it.

    Attributes:
        pairs: requests that it answered twice, one of each conversation.
        disagreements: pairs that disagree by the task's comparator.
    """

    pairs: int
    disagreements: int


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about an SLM's agreement with the LLM on one cluster, passing or not.

    Attributes:
        subject: whose.
        comparator: what counts as agreement.
        judge: the comparator's own error, where it was measured and the bound corrected for it.
        source: held-out calls of the log, or shadow traffic.
        attempt: how many certificates were tried on this task's evidence, this one included.
        data_hash: names the evidence.
        evidence_from, evidence_until: when the first and the last of its calls were made; aware.
        issued_at, expires_at: aware.
        alpha, delta: the risk, and one minus the confidence.
        threshold: only an answer at least this sure is served; None for all.
        conversations: in the evidence; one call of each counts.
        n: of those calls, how many would be served.
        failures: how many of them disagree.
        incomparable: calls among them that could not be compared; they count as failures.
        disagreement_bound: upper confidence bound on disagreement among served calls.
        coverage, coverage_low, coverage_high: share of conversations' calls that would be served, and its interval.
        calls, calls_failed: the same as `n` and `failures` over all calls, however many a conversation has.
        needed: calls that would have to be served to prove α with these failures; None when no number would do.
        ceiling: the LLM's agreement with itself, where calls were repeated.
        ceiling_low, ceiling_high: confidence interval of the LLM's disagreement with itself.
        excess_bound: upper confidence bound on how much more often the SLM disagrees with the LLM than the LLM with
            itself; below 0 when it agrees better.
        method: all this in words.
    """

    subject: Subject
    comparator: str
    judge: JudgeError | None = None
    source: Literal["holdout", "shadow"]
    attempt: int = 1
    data_hash: str
    evidence_from: datetime
    evidence_until: datetime
    issued_at: datetime
    expires_at: datetime
    alpha: float
    delta: float
    threshold: float | None
    conversations: int
    n: int
    failures: int
    incomparable: int
    disagreement_bound: float
    coverage: float
    coverage_low: float
    coverage_high: float
    calls: int
    calls_failed: int
    needed: int | None
    ceiling: SelfAgreement | None = None
    ceiling_low: float | None = None
    ceiling_high: float | None = None
    excess_bound: float | None = None
    method: str

    @property
    def disagreement(self) -> float | None:
        """Share of served calls that disagree; None when none is served."""
        return self.failures / self.n if self.n else None

    @property
    def passes(self) -> bool:
        """Whether it proves its own risk; `shortfall` says whether it still holds."""
        return not self.short_of(self.alpha)

    def short_of(self, alpha: float) -> dict[str, str]:
        """Figures that fall short of a risk, by name, each with what it is and what it would have to be."""
        short: dict[str, str] = {}
        if self.judge is not None and not self.judge.is_measured:
            short["comparator"] = "its error on this task is unknown, must be measured on pairs of known truth"
        if not self.disagreement_bound <= alpha:
            short["disagreement_bound"] = f"{self.disagreement_bound:.4f}, must be at most {alpha:g}"
            if alpha == self.alpha:
                wanted = "no number would do" if self.needed is None else f"{self.needed} with {self.failures} failures"
                short["n"] = f"{self.n} conversations served, needed: {wanted}"
            if self.ceiling_low is not None and self.ceiling_low > alpha:
                short["ceiling"] = f"the LLM disagrees with itself in at least {self.ceiling_low:.4f} of the calls"
        if self.calls_failed > alpha * self.calls:
            rate = self.calls_failed / self.calls
            short["calls_failed"] = f"{rate:.4f} of all {self.calls} calls, must be at most {alpha:g}"
        return short

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON value; `from_json` reads it."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value

    @classmethod
    def from_json(cls, value: object) -> Certificate:
        """Read what `to_json` wrote.

        Raises:
            CertificateInvalid: a field is missing or of the wrong type, or a date has no time zone.
        """
        try:
            certificate = msgspec.convert(value, cls)
        except msgspec.ValidationError as error:
            raise CertificateInvalid(f"not a certificate: {error}") from error
        dates = certificate.evidence_from, certificate.evidence_until, certificate.issued_at, certificate.expires_at
        if any(date.tzinfo is None for date in dates):
            raise CertificateInvalid("not a certificate: a date without a time zone")
        return certificate


class CertificateInvalid(ValueError):
    """Not a certificate's JSON form."""


def shortfall(
    certificate: Certificate | None, subject: Subject, *, alpha: float, delta: float, now: datetime
) -> dict[str, str]:
    """What keeps an SLM from being promoted: figures by name, each with what it is and what it would have to be.

    Args:
        certificate: the newest of the SLM on the cluster, None when there is none.
        subject: what would be promoted, as it is today.
        alpha, delta: what is promised today, which may be stricter than what was certified.
        now: aware.

    Returns:
        Empty when nothing does.
    """
    if certificate is None:
        wanted = f"no certificate; needed: a bound of at most {alpha:g} at confidence {1 - delta:g}"
        return dict.fromkeys(("n", "failures", "disagreement_bound", "comparator", "data_hash"), wanted)
    short = certificate.short_of(alpha)
    if certificate.delta > delta:
        short["confidence"] = f"{1 - certificate.delta:g}, must be at least {1 - delta:g}"
    if now >= certificate.expires_at:
        short["expires_at"] = f"expired at {certificate.expires_at.isoformat()}"
    for name in Subject.__struct_fields__:
        proved, today = getattr(certificate.subject, name), getattr(subject, name)
        if proved != today:
            short[name] = f"certified for {proved!r}, it is now {today!r}"
    return short

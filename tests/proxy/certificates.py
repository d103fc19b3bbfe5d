"""A certificate that passes, for whatever it is to speak of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from router.certificate import Certificate, Subject


def certificate_of(subject: Subject, **changes: Any) -> Certificate:
    """One drawn up just now: valid, but for `changes`."""
    now = datetime.now(UTC)
    figures: dict[str, Any] = {
        "comparator": "label", "source": "holdout", "data_hash": "00ff", "evidence_from": now, "evidence_until": now,
        "issued_at": now, "expires_at": now + timedelta(days=90), "alpha": 0.05, "delta": 0.05, "threshold": 0.8,
        "conversations": 100, "n": 70, "failures": 0, "incomparable": 0, "disagreement_bound": 0.0419,
        "coverage": 0.7, "coverage_low": 0.6, "coverage_high": 0.79, "calls": 90, "calls_failed": 1, "needed": 59,
        "method": "exact",
    }  # fmt: skip
    return Certificate(subject=subject, **(figures | changes))

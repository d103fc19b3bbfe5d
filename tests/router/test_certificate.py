"""The certificate as whoever grants a promotion reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.certificate import Certificate, CertificateInvalid, JudgeError, SelfAgreement, Subject, shortfall

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SUBJECT = Subject(cluster_id="c1", model="triage-v3", weights="w1", skeleton="s1", contract="k1", teacher="gpt-4o/fp_1")
PROVED = Certificate(
    subject=SUBJECT, comparator="label: normalised", source="holdout", data_hash="00ff", evidence_from=NOW,
    evidence_until=NOW, issued_at=NOW, expires_at=NOW + timedelta(days=90), alpha=0.05, delta=0.05, threshold=0.8,
    conversations=100, n=70, failures=0, incomparable=0, disagreement_bound=0.0419, coverage=0.7, coverage_low=0.6,
    coverage_high=0.79, calls=90, calls_failed=1, needed=59, method="exact",
)  # fmt: skip


def changed(**fields: Any) -> Certificate:
    return msgspec.structs.replace(PROVED, **fields)


def lacking(certificate: Certificate | None, subject: Subject = SUBJECT, **today: Any) -> dict[str, str]:
    return shortfall(certificate, subject, **{"alpha": 0.05, "delta": 0.05, "now": NOW, **today})


def test_a_valid_certificate_lacks_nothing() -> None:
    assert PROVED.passes
    assert lacking(PROVED) == {}


def test_without_a_certificate_the_missing_figures_are_named() -> None:
    assert set(lacking(None)) == {"n", "failures", "disagreement_bound", "comparator", "data_hash"}


def test_a_bound_above_the_risk_says_how_many_calls_it_would_take() -> None:
    short = lacking(changed(n=50, disagreement_bound=0.0582))
    assert short["disagreement_bound"] == "0.0582, must be at most 0.05"
    assert short["n"] == "50 conversations served, needed: 59 with 0 failures"
    assert not changed(disagreement_bound=0.0582).passes


def test_a_bound_that_no_number_of_calls_would_lower_says_so() -> None:
    assert "no number would do" in lacking(changed(disagreement_bound=1.0, needed=None))["n"]


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), 0.050000001])
def test_a_bound_that_is_not_at_most_the_risk_fails_closed(bound: float) -> None:
    assert "disagreement_bound" in lacking(changed(disagreement_bound=bound))


def test_an_llm_that_contradicts_itself_is_named_as_the_cause() -> None:
    ceiling = SelfAgreement(pairs=100, disagreements=20)
    assert "ceiling" in lacking(changed(disagreement_bound=0.3, ceiling=ceiling, ceiling_low=0.13))
    assert "ceiling" not in lacking(changed(ceiling=ceiling, ceiling_low=0.13))


def test_long_conversations_that_fail_veto_but_never_carry() -> None:
    assert "calls_failed" in lacking(changed(calls=1000, calls_failed=51))
    assert "calls_failed" not in lacking(changed(calls=1000, calls_failed=50))
    assert "disagreement_bound" in lacking(changed(calls=10**6, calls_failed=0, disagreement_bound=0.06))


def test_a_stricter_promise_than_was_certified_needs_a_new_certificate() -> None:
    assert set(lacking(PROVED, alpha=0.04)) == {"disagreement_bound"}
    assert lacking(PROVED, alpha=0.045) == {}, "the bound proves every risk above it"
    assert set(lacking(PROVED, delta=0.01)) == {"confidence"}
    assert lacking(changed(delta=0.01)) == {}


def test_a_certificate_ends_with_its_last_moment() -> None:
    last = PROVED.expires_at
    assert lacking(PROVED, now=last - timedelta(microseconds=1)) == {}
    assert set(lacking(PROVED, now=last)) == {"expires_at"}


@pytest.mark.parametrize("name", Subject.__struct_fields__)
def test_a_certificate_speaks_of_nothing_else(name: str) -> None:
    assert set(lacking(PROVED, msgspec.structs.replace(SUBJECT, **{name: "other"}))) == {name}


NUMBERS = st.floats(0, 1)


@given(
    bound=NUMBERS, threshold=st.none() | st.floats(allow_nan=False, allow_infinity=False), text=st.text(),
    judge=st.none() | st.builds(JudgeError, disagreements=st.integers(), passed=st.integers(), agreements=st.integers(),
                                rejected=st.integers()),
    ceiling=st.none() | st.builds(SelfAgreement, pairs=st.integers(0, 9), disagreements=st.integers(0, 9)),
    at=st.datetimes(timezones=st.just(UTC)),
)  # fmt: skip
def test_what_was_written_is_read_back(
    bound: float,
    threshold: float | None,
    text: str,
    judge: JudgeError | None,
    ceiling: SelfAgreement | None,
    at: datetime,
) -> None:
    certificate = changed(
        disagreement_bound=bound, threshold=threshold, method=text, judge=judge, ceiling=ceiling, issued_at=at
    )
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate


@pytest.mark.parametrize("name", ["subject", "n", "disagreement_bound", "data_hash", "expires_at"])
def test_a_certificate_without_a_figure_is_none(name: str) -> None:
    value = PROVED.to_json()
    del value[name]
    with pytest.raises(CertificateInvalid, match=name):
        Certificate.from_json(value)


@pytest.mark.parametrize(
    "wrong", [{"n": "70"}, {"n": 70.5}, {"source": "hearsay"}, {"expires_at": "2030-01-01T00:00:00"}, {"alpha": None}]
)
def test_a_certificate_with_a_figure_of_the_wrong_kind_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(CertificateInvalid):
        Certificate.from_json({**PROVED.to_json(), **wrong})


@pytest.mark.parametrize("value", [None, [], "certificate", {}])
def test_what_is_no_object_is_no_certificate(value: object) -> None:
    with pytest.raises(CertificateInvalid):
        Certificate.from_json(value)


def test_reading_a_certificate_takes_no_heavy_library() -> None:
    script = "import sys, router.certificate; print({'numpy', 'scipy', 'router.learning'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )

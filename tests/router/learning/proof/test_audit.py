"""The audit: quiet for as long as the promise is kept, quick when it is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import binom

from router.certificate import Certificate, JudgeError, Subject
from router.learning.proof.agreement import Outcome
from router.learning.proof.audit import FALSE_DEMOTION, Alarm, Audit, AuditInvalid
from router.learning.proof.betting import RateTest, RegressionTest, _log_stakes, _rates
from router.learning.proof.certification import Provenance, certify
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard

STANDARD = Standard(0.05, 0.05)
NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIVES = 10_000


def certificate(n: int, failures: int) -> Certificate:
    return certificate_of(Evidence.of(np.ones(n), np.arange(n) < failures))


def certificate_of(evidence: Evidence) -> Certificate:
    subject = Subject(cluster_id="c", model="m", weights="w", skeleton="s", contract="k", teacher="t")
    return certify(subject, evidence, Provenance("holdout", NOW, NOW), None, STANDARD, comparator="c", issued_at=NOW)


def audited(audit: Audit, *outcomes: Outcome) -> Audit:
    for outcome in outcomes:
        audit = audit.observe(f"conversation {audit.n + audit.uncompared}", outcome)
    return audit


def test_an_slm_that_never_disagrees_raises_no_alarm() -> None:
    audit = audited(Audit.start(certificate(59, 0), STANDARD), *[Outcome.AGREE] * 500)
    assert (audit.alarm, audit.n, audit.disagreement) == (None, 500, 0.0)


def test_an_slm_that_always_disagrees_is_noticed_within_ten_conversations() -> None:
    audit = audited(Audit.start(certificate(59, 0), STANDARD), *[Outcome.DISAGREE] * 10)
    assert audit.alarm is Alarm.BROKEN


def test_an_slm_that_was_never_wrong_is_heard_sooner_as_a_change() -> None:
    audit = audited(Audit.start(certificate(600, 0), STANDARD), *[Outcome.AGREE] * 50)
    while audit.alarm is None:
        audit = audited(audit, Outcome.DISAGREE, *[Outcome.AGREE] * 7)
    assert audit.alarm is Alarm.REGRESSED
    assert audit.n < 200


def test_an_alarm_stays() -> None:
    audit = audited(Audit.start(None, STANDARD), *[Outcome.DISAGREE] * 10)
    assert audited(audit, *[Outcome.AGREE] * 300).alarm is Alarm.BROKEN


def test_a_promotion_without_a_certificate_is_audited_as_well() -> None:
    assert audited(Audit.start(None, STANDARD), *[Outcome.DISAGREE, Outcome.AGREE] * 12).alarm is Alarm.BROKEN


def test_a_burst_within_one_conversation_is_one_failure() -> None:
    audit = Audit.start(certificate(59, 0), STANDARD)
    for _ in range(1000):
        audit = audit.observe("the same", Outcome.DISAGREE)
    assert (audit.alarm, audit.n, audit.failures, audit.repeated) == (None, 1, 1, 999)


def test_conversations_that_come_back_again_and_again_are_heard_and_outweigh_doubt() -> None:
    """A session for each user, or a nightly job on the same inputs."""
    audit = Audit.start(certificate(500, 0), STANDARD)
    for call in range(2000):
        audit = audit.observe(f"user {call % 100}", Outcome.AGREE)
    assert audit.n == 400
    audit = audit.answered_by("fp_1").answered_by("fp_2")
    assert audit.is_in_doubt
    for call in range(600):
        audit = audit.observe(f"user {call % 100}", Outcome.AGREE)
    assert not audit.is_in_doubt
    for call in range(5000):
        audit = audit.observe(f"user {call % 100}", Outcome.DISAGREE if call % 5 == 0 else Outcome.AGREE)
    assert audit.alarm is not None


def test_an_llm_that_gives_no_answer_says_nothing_about_the_slm() -> None:
    audit = audited(Audit.start(certificate(59, 0), STANDARD), *[Outcome.INCOMPARABLE] * 1000)
    assert (audit.alarm, audit.n, audit.uncompared) == (None, 0, 1000)
    assert audit.observe("conversation 0", Outcome.DISAGREE).n == 1, "the conversation can still count"


def test_what_could_not_be_compared_before_is_no_part_of_how_good_the_slm_was() -> None:
    known = Evidence.of(np.ones(100), np.arange(100) < 1)
    with_unknown = Evidence.of(np.ones(110), np.arange(110) < 1, incomparable=np.arange(110) >= 100)
    states = [Audit.start(certificate_of(evidence), STANDARD).test.to_json() for evidence in (known, with_unknown)]
    assert states[0] == states[1]


def test_a_judge_that_rejects_everything_can_not_audit() -> None:
    judge = JudgeError(disagreements=10, passed=0, agreements=10, rejected=10)
    with pytest.raises(ValueError, match="limit"):
        Audit.start(None, Standard(0.05, 0.05, judge))


def test_what_a_judge_invents_demotes_nobody() -> None:
    judge = JudgeError(disagreements=200, passed=0, agreements=1000, rejected=150)
    rng = np.random.default_rng(1)
    audit = Audit.start(None, Standard(0.05, 0.05, judge))
    for place, rejected in enumerate(rng.random(1000) < 0.15):
        audit = audit.observe(str(place), Outcome.DISAGREE if rejected else Outcome.AGREE)
    assert audit.alarm is None


def test_a_killed_learner_goes_on_where_it_was() -> None:
    rng = np.random.default_rng(2)
    audit = stored = Audit.start(certificate(124, 2), STANDARD)
    for place, draw in enumerate(rng.random(900)):
        outcome = Outcome.INCOMPARABLE if draw > 0.97 else Outcome.DISAGREE if draw < 0.06 else Outcome.AGREE
        name = f"conversation {place // 2 % 600}"
        audit = audit.observe(name, outcome)
        stored = Audit.from_json(json.loads(json.dumps(stored.to_json()))).observe(name, outcome)
    assert stored.to_json() == audit.to_json()
    assert len(json.dumps(audit.to_json())) < 20_000


@pytest.mark.parametrize(("failures", "too_few", "enough"), [(0, 30, 60), (15, 8, 20)])
def test_a_disagreement_casts_doubt_until_agreements_outweigh_it(failures: int, too_few: int, enough: int) -> None:
    audit = audited(Audit.start(certificate(500, failures), STANDARD), *[Outcome.AGREE] * 50)
    assert not audit.is_in_doubt
    audit = audited(audit, Outcome.DISAGREE, *[Outcome.AGREE] * too_few)
    assert audit.is_in_doubt
    assert not audited(audit, *[Outcome.AGREE] * (enough - too_few)).is_in_doubt


def test_a_new_backend_of_the_llm_casts_doubt_once_and_the_first_casts_none() -> None:
    audit = audited(Audit.start(certificate(500, 0), STANDARD), Outcome.AGREE).answered_by("fp_1")
    assert not audit.is_in_doubt
    audit = audit.answered_by("fp_2")
    assert audit.is_in_doubt
    audit = audited(audit, *[Outcome.AGREE] * 60).answered_by("fp_1").answered_by("fp_2")
    assert not audit.is_in_doubt
    for number in range(1000):
        audit = audit.answered_by(f"fp_{number}")
    assert len(audit.backends) < 100
    assert Audit.from_json(json.loads(json.dumps(audit.to_json()))).to_json() == audit.to_json()


def test_a_state_from_before_there_was_doubt_goes_on() -> None:
    audit = audited(Audit.start(certificate(124, 2), STANDARD), Outcome.AGREE)
    old = {name: value for name, value in audit.to_json().items() if name not in ("doubt", "peak", "backends", "last")}
    old["change"]["peak"] = 0.0
    assert Audit.from_json(old).to_json() == audit.to_json()


@pytest.mark.parametrize("damage", [{"n": None}, {"promise": {}}, {"change": 3}, {"recent": None}])
def test_a_damaged_state_is_named(damage: dict[str, object]) -> None:
    with pytest.raises(AuditInvalid, match="not an audit's state"):
        Audit.from_json({**Audit.start(None, STANDARD).to_json(), **damage})


def test_the_interval_shown_holds_what_was_seen() -> None:
    audit = audited(Audit.start(None, STANDARD), *[Outcome.AGREE] * 98, Outcome.DISAGREE, Outcome.AGREE)
    low, high = audit.interval(0.05)
    assert low < 0.01 < high < 0.1


def test_at_most_one_of_ten_thousand_kept_promises_is_demoted() -> None:
    """SLMs as good as certificates let them be, from perfect to the very edge, each certified on 200 conversations."""
    rng = np.random.default_rng(3)
    allowed = int(STANDARD.allowed(200))
    rates = rng.uniform(0, 0.05, 3 * LIVES)
    failures = rng.binomial(200, rates)
    passed = np.flatnonzero(failures <= allowed)[:LIVES]
    rates, test = rates[passed], RegressionTest.start(0.05, failures[passed], 200, (len(passed),))
    assert len(rates) == LIVES
    for _ in range(400):
        test = test.observe(rng.random(LIVES) < rates)
    assert test.rejects(FALSE_DEMOTION).sum() <= 1


def passed_with(before: float, n: int) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """How many of n conversations fail where a certificate is granted all the same, and the chance of each number."""
    failures = np.arange(int(STANDARD.allowed(n)) + 1)
    chances = binom.pmf(failures, n, before)
    return failures, chances / chances.sum()


def demoted_falsely(rate: float, n: int, lives: int = 600, horizon: int = 1500) -> float:
    """Chance that a steady SLM that passed on n conversations is demoted, by importance sampling.

    Lives are drawn in which it does get worse, when and by what the gamblers think it might; each demotion counts as
    much as it is likelier in a life without.
    """
    rng = np.random.default_rng(9)
    failures, chances = passed_with(rate, n)
    test = RegressionTest.start(0.05, rng.choice(failures, lives, p=chances), n, (lives,))
    stakes = np.exp([_log_stakes(time) for time in range(horizon)])  # (horizon, 4)
    stakes /= stakes.sum()
    drawn = rng.choice(stakes.size, lives, p=stakes.ravel())
    begins, worse = drawn // stakes.shape[1], _rates(0.05)[drawn % stakes.shape[1]]
    yes, no = np.log(_rates(0.05) / rate), np.log((1 - _rates(0.05)) / (1 - rate))
    drawn_from, counted = np.broadcast_to(np.log(stakes[0]), (lives, stakes.shape[1])), np.zeros(lives)
    for time in range(horizon - 1):
        happened = rng.random(lives) < np.where(time >= begins, worse, rate)
        drawn_from = np.logaddexp(drawn_from + np.where(happened[:, None], yes, no), np.log(stakes[time + 1]))
        test = test.observe(happened)
        odds = np.logaddexp(np.logaddexp.reduce(drawn_from, axis=1), np.log(stakes[time + 1 :].sum()))
        counted = np.where(test.rejects(FALSE_DEMOTION) & (counted == 0), np.exp(-odds), counted)
    return float(counted.mean())


@pytest.mark.parametrize(("rate", "n", "at_most"), [(0.01, 59, 2e-5), (0.03, 500, 5e-5), (0.05, 200, 1e-3)])
def test_of_those_that_passed_hardly_any_is_demoted_falsely(rate: float, n: int, at_most: float) -> None:
    """And of all that were put to the proof, at most one of 10,000, also where nearly none should have passed."""
    chance, passed = demoted_falsely(rate, n), binom.cdf(int(STANDARD.allowed(n)), n, rate)
    assert 1e-8 < chance < at_most
    assert chance * passed < FALSE_DEMOTION


def test_a_promise_kept_to_the_very_edge_in_waves_is_not_called_broken() -> None:
    """Rates swing between nothing and what is promised; half of the lives stay at the edge."""
    rng, test = np.random.default_rng(4), RateTest.start(0.05, (LIVES,))
    edge = np.arange(LIVES) < LIVES // 2
    for time in range(400):
        rates = np.where(edge, 0.05, 0.025 + 0.025 * np.sin(time / 20))
        test = test.observe(rng.random(LIVES) < rates)
    assert test.rejects(FALSE_DEMOTION).sum() <= 1


def noticed_after(before: float, history: int, n: int) -> float:
    """Audited conversations, on average over 500 certified lives, until a rise by ten points raises an alarm."""
    rng, lives, horizon = np.random.default_rng(5), 500, 1200
    failures, chances = passed_with(before, n)
    test = RegressionTest.start(0.05, rng.choice(failures, lives, p=chances), n, (lives,))
    after = np.full(lives, horizon)
    for time in range(-history, horizon):
        test = test.observe(rng.random(lives) < before + 0.1 * (time >= 0))
        if time >= 0:
            after = np.where(test.rejects(FALSE_DEMOTION) & (after == horizon), time + 1, after)
            if (after < horizon).all():
                break
    return float(after.mean())


def served_by_slm(before: float, rise: float, certified: int, share: float, lives: int) -> tuple[float, float]:
    """Lives with a certificate as it is granted and 300 audited conversations, each of one call; then the SLM changes.

    Args:
        before: how often it disagrees at first; `rise` more from then on.
        share: of the served calls that are audited.

    Returns:
        The calls that the SLM answers from then on, on average of all lives, until the alarm or for 10,000 calls; and
        the share of all these calls that the LLM answers, in doubt.
    """
    rng = np.random.default_rng(6)
    failures, chances = passed_with(before, certified)
    by_slm = by_llm = 0
    for failed in rng.choice(failures, lives, p=chances):
        audit = Audit.start(certificate(certified, int(failed)), STANDARD)
        while audit.n < 300:
            audit = after_another(audit, rng.random() < before)
        for _ in range(10_000):
            if audit.alarm is not None:
                break
            by_llm, by_slm = by_llm + audit.is_in_doubt, by_slm + (not audit.is_in_doubt)
            if audit.is_in_doubt or rng.random() < share:
                audit = after_another(audit, rng.random() < before + rise)
    return by_slm / lives, by_llm / (by_llm + by_slm)


def after_another(audit: Audit, failed: bool) -> Audit:
    return audit.observe(str(audit.n), Outcome.DISAGREE if failed else Outcome.AGREE)


@pytest.mark.parametrize(
    ("before", "certified", "share", "at_most"),
    [
        (0.0, 59, 1.0, 30), (0.03, 59, 1.0, 30), (0.01, 500, 1.0, 30), (0.03, 500, 1.0, 30), (0.05, 500, 1.0, 30),
        (0.01, 500, 0.02, 600), (0.03, 500, 0.02, 500),
    ],
)  # fmt: skip
def test_an_slm_that_got_ten_points_worse_answers_no_more_than_so_many_calls(
    before: float, certified: int, share: float, at_most: int
) -> None:
    assert 1 < served_by_slm(before, 0.1, certified, share, lives=30)[0] < at_most


def test_doubt_seldom_holds_a_steady_slm_back_where_a_share_is_audited_and_often_where_all_is() -> None:
    assert 0.005 < served_by_slm(0.03, 0.0, 500, 0.02, lives=20)[1] < 0.03
    assert 0.3 < served_by_slm(0.03, 0.0, 500, 1.0, lives=1)[1] < 0.6


def served_until_late_turns_are_noticed(in_doubt: float) -> int:
    """Calls of conversations of five turns, 2 % of them audited, or so many in doubt; the last two turns got worse."""
    rng = np.random.default_rng(8)
    audit, served, in_full = Audit.start(certificate(500, 5), STANDARD), 0, False
    while audit.alarm is None and served < 20_000:
        served += 1
        if rng.random() < (in_doubt if in_full else 0.02):
            failed = rng.random() < (0.26 if served % 5 > 2 else 0.01)
            audit = audit.observe(str(served // 5), Outcome.DISAGREE if failed else Outcome.AGREE)
            in_full = audit.is_in_doubt
    return served


def test_one_call_of_each_conversation_tells_of_late_turns_what_all_calls_hide() -> None:
    assert served_until_late_turns_are_noticed(1 / 5) < 6000
    assert served_until_late_turns_are_noticed(1.0) == 20_000


def least_after(before: float, history: int, n: int) -> float:
    """What no test can do better: see `audit.py`."""

    def divergence(of: float) -> NDArray[np.float64]:
        return np.asarray(rel_entr(of, rates) + rel_entr(1 - of, 1 - rates))

    rates = np.linspace(1e-4, 0.05, 500)
    failures, chances = passed_with(before, n)
    seen = binom.logpmf(failures[:, None], n, rates) - history * divergence(before)
    return float(((seen - np.log(FALSE_DEMOTION)) / divergence(before + 0.1)).max(axis=1) @ chances)


@pytest.mark.parametrize(
    ("before", "history", "n", "within"),
    [
        (0.0, 0, 500, 60), (0.01, 0, 500, 130), (0.02, 0, 500, 200), (0.03, 0, 500, 200), (0.05, 0, 500, 200),
        (0.0, 300, 59, 120), (0.01, 1000, 500, 140), (0.03, 300, 500, 235), (0.05, 0, 59, 140),
    ],
)  # fmt: skip
def test_a_regression_by_ten_points_is_noticed_within_so_many_audited_conversations(
    before: float, history: int, n: int, within: int
) -> None:
    assert least_after(before, history, n) <= noticed_after(before, history, n) <= within


def test_a_thin_certificate_takes_longer_to_speak_and_nothing_could_be_done_about_that() -> None:
    assert 200 < least_after(0.01, 0, 59) < noticed_after(0.01, 0, 59) < 330

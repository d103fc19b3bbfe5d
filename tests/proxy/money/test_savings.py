"""The account: what belongs to whom, and that nothing is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.money.economics import HOURS_PER_MONTH, Economics, economics_of
from proxy.money.savings import Parts, occupancy, statement
from proxy.settings import Settings
from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.models import PromotionRow
from storage.records import CallFacts, CopyFacts, CopyRecord
from storage.repositories import promotions
from storage.repositories.calls import insert_calls
from storage.repositories.copies import insert_copies
from storage.repositories.costs import add_cost
from tests.storage.conftest import make_record

NOW = datetime.now(UTC)


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)


class Book:
    """A database with calls and copies that cost something."""

    def __init__(self, root: Path) -> None:
        self.cipher = Cipher.open(root)
        self.database = Database(f"sqlite:///{root / 'understudy.db'}")
        self.database.upgrade(self.cipher)

    def call(self, cluster: str | None, *, cost: float | None, avoided: float | None = None, **values: Any) -> bytes:
        by = "llm" if avoided is None else "slm"
        given = {"served_by": by, "upstream": by, "cluster_id": cluster, "arrived_at_ns": nanoseconds(NOW)} | values
        record = make_record(**given)
        facts = CallFacts(model_requested="gpt-4o", cost_usd=cost, counterfactual_usd=avoided, wasted_usd=0.125)
        with self.database.write() as session:
            insert_calls(session, self.cipher, [(record, facts)])
        return record.call_id

    def copy(self, kind: str, call_id: bytes, cluster: str, cost: float | None, duration_ms: float = 1000.0) -> None:
        record = CopyRecord(
            copy_id=new_call_id(), kind=kind, call_id=call_id, at_ns=nanoseconds(NOW), endpoint="chat",
            cluster_id=cluster, promotion_id=1, slm="slm", model="m", outcome="answered", status=200,
            duration_ms=duration_ms,
        )  # fmt: skip
        with self.database.write() as session:
            insert_copies(session, self.cipher, [(record, CopyFacts(cost_usd=cost))])

    def promote(self, cluster: str, since: datetime) -> None:
        row = PromotionRow(
            cluster_id=cluster, model="m", stage="live", share=1.0, slm="slm", forced=True, actor="a",
            created_at=since,
        )  # fmt: skip
        with self.database.write() as session:
            promotions.promote(session, row)

    def spend(self, cluster: str | None, usd: float) -> None:
        with self.database.write() as session:
            add_cost(session, "training", cluster, usd, {"hours": 1.0})


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def settings(root: Path, **values: Any) -> Settings:
    return Settings(data_dir=root, slm_url={"slm": "http://127.0.0.1:9/v1"}, **values)


@pytest.mark.parametrize("by", ["cluster", "model", "agent", "day"])
def test_the_groups_and_the_rest_are_the_whole(book: Book, tmp_path: Path, by: str) -> None:
    book.promote("c-1", datetime.now(UTC) - timedelta(hours=1))
    served = book.call("c-1", cost=0.5, avoided=4.0, duration_ms=360_000.0)
    llms = book.call("c-2", cost=2.0)
    book.copy("audit", served, "c-1", 1.0)
    book.copy("shadow", llms, "c-2", 0.25, duration_ms=720_000.0)
    book.copy("audit", served, "c-1", None)
    book.spend("c-1", 0.5)
    book.spend(None, 0.25)
    with book.database.read() as session:
        drawn_up = statement(session, settings(tmp_path, slm_gpu_usd_per_hour=1.0), by)
    whole = drawn_up.whole
    assert whole.gpu_usd == pytest.approx(1.0, rel=0.01)
    assert drawn_up.rest.gpu_usd == pytest.approx(0.7, rel=0.01)  # 0.1 h by calls, 0.2 h by shadows
    assert (whole.counterfactual_usd, whole.slm_usd, whole.wasted_usd) == (4.0, 0.5, 0.25)
    assert (whole.audit_usd, whole.shadow_usd, whole.training_usd) == (1.0, 0.25, 0.75)
    assert whole.net_usd == pytest.approx(4.0 - 0.5 - 1.0 - 0.25 - 0.25 - 0.75 - whole.gpu_usd)
    if by == "cluster":
        assert drawn_up.parts["c-1"].training_usd == 0.5
        assert drawn_up.parts["c-1"].gpu_usd == pytest.approx(0.1, rel=0.01)
        assert drawn_up.parts["c-2"].gpu_usd == pytest.approx(0.2, rel=0.01)
        assert drawn_up.rest.training_usd == 0.25


def test_a_server_that_works_on_several_answers_at_once_costs_no_more_for_it(tmp_path: Path) -> None:
    busy: dict[tuple[str | None, str], float] = {("a", "slm"): 7200.0, ("b", "slm"): 21_600.0, ("b", "gone"): 9.0}
    used, idle_usd = occupancy(settings(tmp_path, slm_gpu_usd_per_hour=1.0), 3600.0, busy)
    assert used == {"a": pytest.approx(0.25), "b": pytest.approx(0.75)}
    assert idle_usd == 0


def test_nothing_promoted_nothing_rented(book: Book, tmp_path: Path) -> None:
    book.call("c-1", cost=1.0)
    with book.database.read() as session:
        drawn_up = statement(session, settings(tmp_path, slm_gpu_usd_per_hour=1.0))
    assert drawn_up.whole == Parts(wasted_usd=0.125)


def test_costs_that_are_older_than_the_log_are_no_part_of_it(book: Book, tmp_path: Path) -> None:
    book.promote("c-1", NOW - timedelta(days=400))
    with book.database.read() as session:
        drawn_up = statement(session, settings(tmp_path, slm_gpu_usd_per_hour=1.0, retention_days=2))
    assert drawn_up.whole.gpu_usd == pytest.approx(48.0, rel=0.01)


def economics(**changes: Any) -> Economics:
    known: dict[str, Any] = {
        "calls_per_month": 10_000.0, "llm_usd_per_call": 0.01, "slm_usd_per_call": 0.001, "audit_share": 0.1,
        "training_usd": 8.0, "training_is_expected": False, "running_usd_per_month": 32.0, "balance_usd": -16.0,
    }  # fmt: skip
    return Economics(**(known | changes))


def test_training_pays_from_the_break_even_volume_on() -> None:
    """0.008 a call is saved: 0.01 less a tenth for the audit, less 0.001."""
    assert economics().saved_usd_per_call == pytest.approx(0.008)
    assert economics().break_even_calls_per_month == pytest.approx(5000)
    assert economics().pays is True
    assert economics(calls_per_month=4999.0).pays is False
    assert economics().calls_until_paid_back == pytest.approx(16 / (0.008 - 32 / 10_000), abs=1)


def test_what_was_never_trained_owes_its_training_first() -> None:
    assert economics(training_is_expected=True, balance_usd=0.0).calls_until_paid_back == pytest.approx(1667, abs=1)
    assert economics(balance_usd=1.0).calls_until_paid_back == 0


@pytest.mark.parametrize("changes", [{"slm_usd_per_call": 0.02}, {"audit_share": 1.0}], ids=str)
def test_an_slm_that_costs_more_a_call_never_pays(changes: dict[str, Any]) -> None:
    assert economics(**changes).break_even_calls_per_month is None
    assert economics(**changes).pays is False
    assert economics(**changes).calls_until_paid_back is None


def test_a_price_that_nobody_knows_makes_no_claim() -> None:
    assert economics(llm_usd_per_call=None).pays is None
    assert economics(llm_usd_per_call=None).break_even_calls_per_month is None


def test_too_few_calls_never_pay_the_rent_back() -> None:
    assert economics(calls_per_month=100.0).calls_until_paid_back is None


def test_a_tasks_figures_come_from_its_log(book: Book, tmp_path: Path) -> None:
    begin = nanoseconds(NOW - timedelta(days=10))
    book.call("c-1", cost=0.02, arrived_at_ns=begin)
    book.call("c-1", cost=0.001, avoided=0.04)
    book.call("c-1", cost=None)
    book.call("c-2", cost=0.02)
    book.spend("c-1", 6.0)
    book.promote("c-1", datetime.now(UTC) - timedelta(hours=1))
    with book.database.read() as session:
        found = economics_of(session, settings(tmp_path, slm_gpu_usd_per_hour=1.0, audit_share=0.5))
    one, two = found["c-1"], found["c-2"]
    assert one.calls_per_month == pytest.approx(3 * 3.04375)
    assert (one.llm_usd_per_call, one.slm_usd_per_call) == (pytest.approx(0.03), pytest.approx(0.001))
    assert (one.training_usd, one.training_is_expected) == (6.0, False)
    assert (two.training_usd, two.training_is_expected) == (6.0, True)
    assert one.running_usd_per_month == pytest.approx(HOURS_PER_MONTH)
    assert two.running_usd_per_month == pytest.approx(HOURS_PER_MONTH / 2)  # they would share the server
    assert one.balance_usd == pytest.approx(0.04 - 0.001 - 3 * 0.125 - 6.0, abs=0.01)
    assert None not in found

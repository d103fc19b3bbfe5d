"""Copies and costs: into the database once, sealed, judged, summed up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select, update

from storage.cipher import Cipher
from storage.database import Database
from storage.errors import NotFound
from storage.frame import Damage
from storage.ids import new_call_id
from storage.models import CopyRow
from storage.records import CallFacts, CallRecord, CopyFacts, CopyRecord
from storage.repositories.calls import insert_calls
from storage.repositories.copies import (
    CopyTotals,
    audit_answers,
    copies_to_judge,
    copy_totals,
    insert_copies,
    known_cost_usd,
    list_copies,
    note_verdict,
    shadow_busy_ms,
)
from storage.repositories.costs import CostTotals, add_cost, cost_totals
from storage.shipper import Shipper
from storage.spool import Spool, decode_segment, read_segment, segments
from tests.storage.conftest import make_record, no_facts

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = b'{"choices":[{"message":{"content":"call me at jo@example.org"}}]}'


def make_copy(call_id: bytes, **changes: object) -> CopyRecord:
    values: dict[str, object] = {
        "copy_id": new_call_id(), "kind": "audit", "call_id": call_id, "at_ns": int(NOON.timestamp() * 1e9),
        "endpoint": "chat", "cluster_id": "c-1", "promotion_id": 3, "slm": "gpu", "model": "m", "outcome": "answered",
        "status": 200, "duration_ms": 50.0,
    }  # fmt: skip
    return CopyRecord(**(values | changes))  # type: ignore[arg-type]


def add_call(database: Database, cipher: Cipher, **changes: object) -> bytes:
    record = make_record(arrived_at_ns=int(NOON.timestamp() * 1e9), **changes)
    with database.write() as session:
        insert_calls(session, cipher, [(record, CallFacts(model_requested="gpt-4o"))])
    return record.call_id


def add(database: Database, cipher: Cipher, *copies: tuple[CopyRecord, CopyFacts]) -> list[bool]:
    with database.write() as session:
        return insert_copies(session, cipher, copies)


def test_a_copy_is_there_once_and_unreadable_without_the_key(each_database: Database, cipher: Cipher) -> None:
    call_id = add_call(each_database, cipher)
    copy = make_copy(call_id, confidence=0.75), CopyFacts(answer=SAID, input_tokens=7, output_tokens=3, cost_usd=0.5)
    assert add(each_database, cipher, copy, copy) == [True, False]
    assert add(each_database, cipher, copy) == [False]
    with each_database.read() as session:
        [stored] = list_copies(session, cipher, call_id=call_id)
        sealed = session.scalar(select(CopyRow.answer)) or b""
    assert stored.answer == SAID
    assert b"jo@example" not in sealed
    row = stored.row
    assert (row.kind, row.promotion_id, row.slm, row.model, row.at) == ("audit", 3, "gpu", "m", NOON)
    assert (row.confidence, row.input_tokens, row.output_tokens, row.cost_usd) == (0.75, 7, 3, 0.5)


def test_of_a_redacted_call_the_copy_is_redacted_too(each_database: Database, cipher: Cipher) -> None:
    call_id = add_call(each_database, cipher, log="redacted")
    add(each_database, cipher, (make_copy(call_id, log="redacted"), CopyFacts(answer=SAID)))
    with each_database.read() as session:
        [stored] = list_copies(session, cipher)
    assert stored.answer == SAID.replace(b"jo@example.org", b"[EMAIL]")


def test_copies_are_judged_in_the_order_in_which_they_were_asked_for(each_database: Database, cipher: Cipher) -> None:
    call_id = add_call(each_database, cipher)
    one, two, refused = make_copy(call_id), make_copy(call_id), make_copy(call_id, outcome="llm_error", status=429)
    facts = CopyFacts(answer=SAID)
    add(each_database, cipher, (two, facts), (one, facts), (refused, CopyFacts()))
    with each_database.read() as session:
        assert [row.copy_id for row in copies_to_judge(session, 10)] == [one.copy_id, two.copy_id, refused.copy_id]
        assert [row.copy_id for row in copies_to_judge(session, 1)] == [one.copy_id]
        assert [row.copy_id for row in copies_to_judge(session, 10, [two.copy_id])] == [two.copy_id]
    with each_database.write() as session:
        note_verdict(session, one.copy_id, "disagree", "another label", NOON)
    with each_database.read() as session:
        assert [row.copy_id for row in copies_to_judge(session, 10)] == [two.copy_id, refused.copy_id]
        judged = next(each.row for each in list_copies(session, cipher) if each.row.copy_id == one.copy_id)
    assert (judged.verdict, judged.verdict_reason, judged.judged_at) == ("disagree", "another label", NOON)


def test_a_verdict_on_what_was_deleted_is_refused(each_database: Database) -> None:
    with pytest.raises(NotFound), each_database.write() as session:
        note_verdict(session, b"n" * 16, "agree", None, NOON)


def test_what_the_llm_said_to_audited_calls_can_be_learned_from(each_database: Database, cipher: Cipher) -> None:
    audited, shadowed, refused = (add_call(each_database, cipher) for _ in range(3))
    add(
        each_database, cipher,
        (make_copy(audited), CopyFacts(answer=SAID)),
        (make_copy(shadowed, kind="shadow"), CopyFacts(answer=b"{}")),
        (make_copy(refused, outcome="llm_error"), CopyFacts(answer=b"{}")),
    )  # fmt: skip
    damaged: list[bytes] = []
    with each_database.read() as session:
        found = audit_answers(session, cipher, [audited, shadowed, refused], damaged.append)
    assert (found, damaged) == ({audited: SAID}, [])


def test_a_damaged_audit_is_named_and_the_others_are_read(each_database: Database, cipher: Cipher) -> None:
    whole, damaged = add_call(each_database, cipher), add_call(each_database, cipher)
    copy = make_copy(damaged)
    add(each_database, cipher, (make_copy(whole), CopyFacts(answer=SAID)), (copy, CopyFacts(answer=SAID)))
    with each_database.write() as session:
        session.execute(update(CopyRow).where(CopyRow.copy_id == copy.copy_id).values(answer=b"no cipher wrote this"))
    lost: list[bytes] = []
    with each_database.read() as session:
        found = audit_answers(session, cipher, [whole, damaged], lost.append)
    assert (found, lost) == ({whole: SAID}, [copy.copy_id])


def test_copies_are_summed_up_by_kind_and_key(each_database: Database, cipher: Cipher) -> None:
    call_id = add_call(each_database, cipher, agent="desk")
    facts = CopyFacts(input_tokens=10, output_tokens=2, cost_usd=0.25)
    add(
        each_database, cipher,
        (make_copy(call_id), facts), (make_copy(call_id, at_ns=0), facts),
        (make_copy(call_id), CopyFacts()), (make_copy(call_id, outcome="llm_error", status=429), CopyFacts()),
        (make_copy(call_id, kind="shadow", cluster_id="c-2"), facts),
    )  # fmt: skip
    expected = CopyTotals("c-1", "audit", 3, 2, 10, 2, 0.25, 1, 150.0)
    since = NOON - timedelta(hours=1)
    with each_database.read() as session:
        one, two = copy_totals(session, "cluster", since)
        assert (one, two.key, two.kind) == (expected, "c-2", "shadow")
        for by, key in (("agent", "desk"), ("model", "gpt-4o"), ("day", "2026-03-01")):
            assert copy_totals(session, by, since)[0] == replace(expected, key=key)
        assert shadow_busy_ms(session, "agent") == {("desk", "gpu"): 50.0}
        assert known_cost_usd(session, since) == 0.5
        assert copy_totals(session, "cluster", NOON + timedelta(hours=1)) == []


def test_costs_are_summed_up_by_kind_and_cluster(each_database: Database) -> None:
    with each_database.write() as session:
        for cluster_id, usd in (("c-1", 1.0), ("c-1", 0.5), (None, 2.0)):
            assert add_cost(session, "training", cluster_id, usd, {"hours": usd}).cost_id
        add_cost(session, "evaluation", "c-1", 0.25, {})
    with each_database.read() as session:
        assert cost_totals(session) == [
            CostTotals("evaluation", "c-1", 0.25), CostTotals("training", None, 2.0), CostTotals("training", "c-1", 1.5)
        ]  # fmt: skip
        assert cost_totals(session, since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_copies_go_through_the_spool_beside_their_calls(database: Database, cipher: Cipher, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    call = make_record()
    copy = make_copy(call.call_id, answer=SAID)
    spool.append(call)
    spool.append(copy)
    spool.close()
    [segment] = segments(tmp_path / "spool")
    assert list(read_segment(segment, cipher)) == [call]
    counted: list[CopyRecord] = []
    shipper = Shipper(
        tmp_path / "spool", database, cipher, read_facts=no_facts, on_shipped=lambda calls: None,
        read_copy=lambda record: CopyFacts(answer=record.answer, cost_usd=0.5),
        on_copies_shipped=lambda copies: counted.extend(record for record, _ in copies),
    )  # fmt: skip
    assert shipper.ship_once() == 1
    assert counted == [copy]
    with database.read() as session:
        [stored] = list_copies(session, cipher, call_id=call.call_id)
    assert stored.answer == SAID


def test_a_copy_that_the_database_refuses_holds_up_no_call(database: Database, cipher: Cipher, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    calls = [make_record() for _ in range(3)]
    refused = make_copy(calls[0].call_id)
    for record in (calls[0], refused, *calls[1:]):
        spool.append(record)
    spool.close()

    def read(record: CopyRecord) -> CopyFacts:
        return CopyFacts(input_tokens=2**64)  # no database has a number for that

    shipper = Shipper(
        tmp_path / "spool", database, cipher, read_facts=no_facts, on_shipped=lambda calls: None, read_copy=read
    )
    assert shipper.ship_once() == 3
    [aside] = (tmp_path / "spool" / "quarantine").glob("*.seg")
    assert list(decode_segment(aside.read_bytes(), cipher, Damage())) == [refused]


def test_a_copy_is_told_from_a_call_by_its_form() -> None:
    """Calls are arrays and copies are maps: older segments hold nothing but arrays."""
    assert isinstance(msgspec.msgpack.decode(msgspec.msgpack.encode(make_record())), list)
    assert isinstance(msgspec.msgpack.decode(msgspec.msgpack.encode(make_copy(b"c" * 16))), dict)
    assert CallRecord.__struct_config__.array_like

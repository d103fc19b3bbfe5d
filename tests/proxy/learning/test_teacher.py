"""The LLM's answers to audited calls are learned from as if it had served them; an SLM's never are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from proxy.learning.discovery import learn_from_log
from proxy.learning.teacher import Taught, taught_calls
from proxy.learning.training import make_dataset, open_dataset
from proxy.learning.workshop import Workshop
from proxy.proving.held_out import HeldOutCalls, held_out_calls
from proxy.settings import Settings
from router.contract import OutputContract
from router.learning.curation.drops import Drop
from router.learning.curation.samples import Curated
from storage.ids import format_call_id, new_call_id
from storage.models import CopyRow, KeyRow
from storage.records import CallFacts, CopyFacts, CopyRecord
from storage.repositories.calls import insert_calls
from storage.repositories.clusters import StoredCluster, activate_snapshot, list_clusters
from storage.repositories.copies import insert_copies
from tests.storage.conftest import make_record

LABELS = {"kind": "label", "labels": ["refund", "stock", "login"]}
MINUTE_NS = 60 * 10**9
BEGIN_NS = 1_767_225_600 * 10**9
TODAY = "gpt-4o-2026-11-01"


@dataclass(frozen=True)
class Asked:
    """A call for the log: a ticket, who served it, and what the LLM said when it was asked."""

    number: int
    served_by: str = "llm"
    audit: str | None = None
    teacher: str | None = TODAY
    origin: bytes = b"\x01" * 16

    @property
    def label(self) -> str:
        return str(LABELS["labels"][self.number % 3])


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A log with one task, `c-1`, that no call is of yet."""
    workshop = Workshop.open(Settings(data_dir=tmp_path, encoder=""), lambda line: None)
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s-1", label="triage", contract=LABELS, skeleton="You sort tickets.",
        calls=9, conversations=9, examples=[],
    )  # fmt: skip
    with workshop.database.write() as session:
        activate_snapshot(session, workshop.cipher, "s-1", 9, [row])
    yield workshop
    workshop.database.close()


def completion(content: str, model: str | None) -> bytes:
    message = {"role": "assistant", "content": content}
    named = {} if model is None else {"model": model}
    return orjson.dumps(named | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def log_calls(workshop: Workshop, calls: list[Asked]) -> list[str]:
    """Into the log, a minute apart, each in a conversation of its own; what an SLM says is always `stock`.

    Returns:
        The calls' ids.
    """
    records, copies = [], []
    for call in calls:
        by_llm = call.served_by == "llm"
        text = f"Ticket {call.number}: item {call.number * 7919 % 10**6} is late, says customer {call.number * 31}"
        said = [{"role": "system", "content": "You sort tickets."}, {"role": "user", "content": text}]
        at_ns = BEGIN_NS + call.number * MINUTE_NS
        model = call.teacher if by_llm else "tiny"
        record = make_record(
            orjson.dumps({"model": "gpt-4o", "messages": said}),
            completion(call.label if by_llm else "stock", model),
            cluster_id="c-1", served_by=call.served_by, upstream="llm" if by_llm else "gpu", origin=call.origin,
            arrived_at_ns=at_ns,
        )  # fmt: skip
        records.append((record, CallFacts(model_reported=model)))
        if call.audit is not None:
            copy = CopyRecord(
                copy_id=new_call_id(), kind="audit", call_id=record.call_id, at_ns=at_ns + 10**9, endpoint="chat",
                cluster_id="c-1", promotion_id=1, slm="gpu", model="tiny", outcome="answered", status=200,
                duration_ms=400.0,
            )  # fmt: skip
            copies.append((copy, CopyFacts(answer=completion(call.audit, call.teacher))))
    with workshop.database.write() as session:
        insert_calls(session, workshop.cipher, records)
        insert_copies(session, workshop.cipher, copies)
    return [format_call_id(record.call_id) for record, _ in records]


def partly_audited(count: int) -> list[Asked]:
    """Of every four calls the LLM serves two, and an SLM two; one of these is audited."""
    calls = [Asked(number) for number in range(count)]
    for number in range(count):
        if number % 4 > 1:
            audit = calls[number].label if number % 4 == 2 else None
            calls[number] = replace(calls[number], served_by="slm", audit=audit)
    return calls


def curated(workshop: Workshop) -> Curated:
    return open_dataset(workshop, make_dataset(workshop, "c-1")).curated


def held_out(workshop: Workshop) -> HeldOutCalls:
    with workshop.database.read() as session:
        return held_out_calls(session, workshop.cipher, "c-1", None, None, workshop.progress)


def taught(workshop: Workshop) -> list[Taught]:
    with workshop.database.read() as session:
        return list(taught_calls(session, workshop.cipher, workshop.progress))


def ids(calls: Any) -> list[str]:
    return [each.call_id for each in calls]


def test_an_audited_call_is_used_once_and_one_that_only_an_slm_answered_never(workshop: Workshop) -> None:
    calls = partly_audited(120)
    call_ids = log_calls(workshop, calls)
    found = curated(workshop)
    used = Counter(ids(found.train) + ids(found.calibration) + ids(found.certification))
    taught_ids = [name for name, call in zip(call_ids, calls, strict=True) if call.served_by == "llm" or call.audit]
    assert used == Counter(taught_ids)
    assert found.drops == {Drop.SLM_SERVED: 30}
    by_id = dict(zip(call_ids, calls, strict=True))
    audited = [sample for sample in found.train if by_id[sample.call_id].audit is not None]
    assert len(audited) == 18
    assert all(sample.chat[-1]["content"] == by_id[sample.call_id].audit for sample in audited)


def test_training_and_proof_hold_out_the_same_calls(workshop: Workshop) -> None:
    """Also of a log with audits, with a key that forbids training, and with an LLM that took turns with another."""
    forbidden = b"\x02" * 16
    calls = [replace(call, origin=forbidden if call.number % 5 == 0 else call.origin) for call in partly_audited(160)]
    with workshop.database.write() as session:
        session.add(
            KeyRow(
                key_id="k", name="billing", key_hash=b"h", origin=forbidden, role=None, may_divert=True,
                may_force=False, max_log="full", allows_training=False, created_at=datetime.now(UTC),
                created_by="anna", revoked_at=None, revoked_by=None,
            )
        )  # fmt: skip
    log_calls(workshop, calls)
    found, proof = curated(workshop), held_out(workshop)
    assert found.drops[Drop.FORBIDDEN_KEY]
    assert [each.call.call_id for each in proof.calibration] == ids(found.calibration)
    assert [each.call.call_id for each in proof.certification] == ids(found.certification)


def test_an_llm_that_is_gone_proves_nothing_and_moves_no_border(workshop: Workshop) -> None:
    """The teacher of an audited call is who answered the audit, whatever the SLM calls itself."""
    calls = [
        Asked(number, "slm", audit="refund", teacher="gpt-4o-2024-08-06" if number % 3 == 0 else TODAY)
        if number % 2
        else Asked(number)
        for number in range(160)
    ]
    call_ids = log_calls(workshop, calls)
    of_today = {name for name, call in zip(call_ids, calls, strict=True) if call.teacher == TODAY}
    found, proof = curated(workshop), held_out(workshop)
    assert 0 < len(proof.certification) < len(found.certification)
    assert [each.call.call_id for each in proof.certification] == [
        name for name in ids(found.certification) if name in of_today
    ]
    assert [each.call.call_id for each in proof.calibration] == [
        name for name in ids(found.calibration) if name in of_today
    ]


def test_contracts_are_induced_from_audits_too(workshop: Workshop) -> None:
    """An SLM serves every call, and says `stock`; the LLM has never said that."""
    calls = [Asked(number, "slm", audit=["refund", "login"][number % 2]) for number in range(80)]
    log_calls(workshop, calls)
    learn_from_log(workshop.database, workshop.cipher, workshop.artifacts, workshop.progress)
    with workshop.database.read() as session:
        [cluster] = list_clusters(session, workshop.cipher)
    assert set(OutputContract.from_json(cluster.contract).labels) == {"refund", "login"}


def test_a_damaged_audit_leaves_a_call_that_only_an_slm_answered(workshop: Workshop) -> None:
    log_calls(workshop, [Asked(0, "slm", audit="login"), Asked(1, "slm", audit="login")])
    with workshop.database.write() as session:
        first = session.scalars(select(CopyRow).order_by(CopyRow.copy_id)).first()
        assert first is not None
        first.answer = b"no cipher wrote this"
    damaged, whole = taught(workshop)
    assert damaged.call is not None
    assert (damaged.is_answered, damaged.call.answer) == (False, None)
    assert whole.call is not None
    assert (whole.is_answered, whole.teacher, whole.call.answer.text if whole.call.answer else "") == (
        True, TODAY, "login",
    )  # fmt: skip


def test_a_large_log_is_read_in_batches_and_in_order(workshop: Workshop) -> None:
    calls = partly_audited(1100)
    call_ids = log_calls(workshop, calls)
    told: list[str] = []
    with workshop.database.read() as session:
        found = list(taught_calls(session, workshop.cipher, told.append, cluster_id="c-1"))
    assert [each.call.call_id for each in found if each.call] == call_ids
    assert sum(each.is_answered for each in found) == 825
    assert told == ["reading the log: 1000 calls"]

"""Pages of the log: nothing skipped, nothing twice, whatever the ids and however many calls arrived at once."""

from __future__ import annotations

import random

import pytest

from storage.cipher import Cipher
from storage.database import Database
from storage.errors import NotFound
from storage.ids import new_call_id
from storage.repositories.calls import find_calls, insert_calls, iter_calls
from tests.storage.conftest import make_record, no_facts

SECOND_NS = 10**9


def fill(database: Database, cipher: Cipher, count: int) -> list[bytes]:
    """Log calls whose ids say nothing of their arrival, many at the same moment; ids in the order of arrival."""
    draw = random.Random(7)
    records = [
        make_record(arrived_at_ns=1_767_000_000 * SECOND_NS + draw.randrange(5) * SECOND_NS) for _ in range(count)
    ]
    draw.shuffle(records)
    with database.write() as session:
        insert_calls(session, cipher, [(record, no_facts(record)) for record in records])
    return [record.call_id for record in sorted(records, key=lambda record: (record.arrived_at_ns, record.call_id))]


@pytest.mark.parametrize("limit", [1, 7, 60])
def test_pages_show_every_call_once_newest_first(each_database: Database, cipher: Cipher, limit: int) -> None:
    ids = fill(each_database, cipher, 60)
    shown: list[bytes] = []
    before = None
    with each_database.read() as session:
        while page := find_calls(session, before=before, limit=limit):
            shown += [call.call_id for call in page]
            before = shown[-1]
    assert shown == ids[::-1]


def test_slow_calls_are_found(each_database: Database, cipher: Cipher) -> None:
    records = [make_record(duration_ms=duration_ms) for duration_ms in (3.0, 900.0, 1000.0, 1000.5)]
    with each_database.write() as session:
        insert_calls(session, cipher, [(record, no_facts(record)) for record in records])
    with each_database.read() as session:
        assert [call.duration_ms for call in find_calls(session, slower_than_ms=1000)] == [1000.5]


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_all_calls_are_read_once_in_the_order_of_their_arrival(
    each_database: Database, cipher: Cipher, batch: int
) -> None:
    ids = fill(each_database, cipher, 60)
    with each_database.read() as session:
        assert [call.row.call_id for call in iter_calls(session, cipher, batch=batch)] == ids


def test_a_page_after_a_call_that_is_gone_is_an_error_and_not_a_gap(each_database: Database, cipher: Cipher) -> None:
    fill(each_database, cipher, 3)
    with each_database.read() as session, pytest.raises(NotFound):
        find_calls(session, before=new_call_id())

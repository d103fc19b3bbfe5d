import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from storage.blocks import BLOCK_BYTES, seal, unseal
from storage.cipher import Cipher, Undecipherable
from storage.database import Database
from storage.models import Block
from storage.records import CallFacts, CallRecord
from storage.repositories.calls import get_call, insert_calls, iter_calls
from storage.repositories.pieces import forget_pieces, hide_pieces, read_pieces
from tests.storage.conftest import make_record

DAY_NS = 86_400 * 10**9
NOW_NS = 1_767_000_000_000_000_000


def conversation(turns: int, words: int = 40, seed: int = 1) -> list[CallRecord]:
    """Each call sends the whole history again."""
    chance = random.Random(seed)
    history: list[dict[str, str]] = []
    calls = []
    for _ in range(turns):
        said = " ".join(f"{chance.getrandbits(32):x}" for _ in range(words))
        history.append({"role": "user", "content": said})
        answer = {"choices": [{"message": {"role": "assistant", "content": said[::-1]}}]}
        calls.append(make_record(json.dumps({"messages": history}).encode(), json.dumps(answer).encode()))
        history.append(answer["choices"][0]["message"])
    return calls


def insert(database: Database, cipher: Cipher, calls: list[CallRecord]) -> None:
    with database.write() as session:
        assert all(insert_calls(session, cipher, [(call, CallFacts()) for call in calls]))


def blocks(database: Database) -> list[tuple[int, int, int, int]]:
    with database.read() as session:
        rows = session.execute(select(Block.first_id, Block.pieces, Block.day, Block.size).order_by(Block.first_id))
        return [tuple(row) for row in rows]


def assert_readable(database: Database, cipher: Cipher, calls: list[CallRecord]) -> None:
    with database.read() as session:
        read = {stored.row.call_id: stored for stored in iter_calls(session, cipher, batch=7)}
        assert len(read) == len(calls)
        for call in calls:
            for stored in (read[call.call_id], get_call(session, cipher, call.call_id)):
                assert (stored.request_body, stored.response_body) == (call.request_body, call.response_body)


def test_a_history_sent_again_is_stored_once(each_database: Database, cipher: Cipher) -> None:
    calls = conversation(turns=30)
    insert(each_database, cipher, calls[:20])
    insert(each_database, cipher, calls[20:])
    distinct = len(calls[-1].request_body) + sum(len(call.response_body) for call in calls)
    assert sum(size for _, _, _, size in blocks(each_database)) < 1.2 * distinct
    assert_readable(each_database, cipher, calls)


def test_calls_that_come_one_by_one_end_in_few_blocks(each_database: Database, cipher: Cipher) -> None:
    calls = conversation(turns=100)
    for call in calls:
        insert(each_database, cipher, [call])
    found = blocks(each_database)
    assert len(found) <= 8  # as the binary digits of 100
    assert [first + pieces for first, pieces, _, _ in found[:-1]] == [first for first, _, _, _ in found[1:]]
    assert_readable(each_database, cipher, calls)


def test_a_block_is_bounded_whatever_comes_at_once(each_database: Database, cipher: Cipher) -> None:
    calls = conversation(turns=12, words=20_000)
    insert(each_database, cipher, calls)
    largest = max(len(call.response_body) for call in calls)
    assert all(size < BLOCK_BYTES + largest for _, _, _, size in blocks(each_database))
    assert len(blocks(each_database)) > 2
    assert_readable(each_database, cipher, calls)


def test_calls_of_different_days_share_no_block(each_database: Database, cipher: Cipher) -> None:
    calls = [make_record(b'{"n":%d}' % n, arrived_at_ns=NOW_NS + n % 3 * DAY_NS) for n in range(9)]
    insert(each_database, cipher, calls)
    assert len({day for _, _, day, _ in blocks(each_database)}) == 3
    assert_readable(each_database, cipher, calls)


def test_pieces_that_are_not_there_are_left_out(each_database: Database, cipher: Cipher) -> None:
    with each_database.read() as session:
        assert read_pieces(session, cipher, {0, 7}) == {}
    insert(each_database, cipher, conversation(turns=2))
    with each_database.write() as session:
        assert set(read_pieces(session, cipher, range(9))) == {0, 1, 2, 3, 4}
        hide_pieces(session, cipher, {1, 3})
        forget_pieces(session, cipher, {1, 3})
        assert set(read_pieces(session, cipher, range(9))) == {0, 2, 4}


def test_nothing_is_written_beside_what_another_key_has_written(database: Database, cipher: Cipher) -> None:
    insert(database, cipher, [make_record()])
    with pytest.raises(Undecipherable), database.write() as session:
        insert_calls(session, Cipher(b"o" * 32), [(make_record(), CallFacts())])
    assert len(blocks(database)) == 1


@given(st.lists(st.binary(max_size=200)))
@settings(max_examples=50)
def test_a_block_gives_back_its_pieces_and_no_damaged_one(pieces: list[bytes]) -> None:
    cipher = Cipher(b"k" * 32)
    sealed = bytearray(seal(cipher, pieces))
    assert unseal(cipher, bytes(sealed)) == pieces
    sealed[-1] ^= 1
    with pytest.raises(Undecipherable):
        unseal(cipher, bytes(sealed))

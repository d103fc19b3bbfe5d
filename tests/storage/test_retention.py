import json
import random
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from storage.blocks import unseal
from storage.cipher import Cipher, Undecipherable
from storage.database import Database
from storage.ids import new_call_id
from storage.models import Base, Block, Call, FeedbackRow, SharedPiece
from storage.records import CallFacts, CopyFacts, CopyRecord
from storage.repositories.calls import count_calls, get_call, insert_calls
from storage.repositories.copies import insert_copies, list_copies
from storage.repositories.feedback import give_feedback
from storage.repositories.forgetting import Forgetting
from storage.repositories.retention import delete_older_than, delete_unused_pieces
from tests.storage.conftest import damage_block, make_record

SHARED = "You are a helpful assistant, and these are the rules of the house. " * 2


def insert(
    database: Database,
    cipher: Cipher,
    *said: str,
    origin: bytes = b"o" * 16,
    at: datetime | None = None,
    source: str | None = None,
) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": one.ljust(60, ".")} for one in said]}).encode()
    nanoseconds = int((at or datetime.now(UTC)).timestamp() * 1e9)
    record = make_record(body, origin=origin, arrived_at_ns=nanoseconds, source=source)
    with database.write() as session:
        insert_calls(session, cipher, [(record, CallFacts())])
    return record.call_id


def log(database: Database, cipher: Cipher) -> bytes:
    """Everything that anybody with the key can read in it."""
    with database.read() as session:
        return b"".join(b"".join(unseal(cipher, data)) for data in session.scalars(select(Block.data)))


def count(database: Database, table: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_forgotten_origin_leaves_nothing_that_only_it_said(each_database: Database, cipher: Cipher) -> None:
    for number in range(3):
        insert(each_database, cipher, SHARED, f"my secret {number}", origin=b"a" * 16)
    kept = insert(each_database, cipher, SHARED, "mine", origin=b"b" * 16)
    insert(each_database, cipher, SHARED, "my secret 3", origin=b"a" * 16)
    assert Forgetting(each_database, cipher, b"a" * 16, batch=3).run() == 4
    assert b"secret" not in log(each_database, cipher)
    with each_database.read() as session:
        assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")
    assert Forgetting(each_database, cipher, b"a" * 16).run() == 0


def test_what_was_forgotten_can_be_said_again(each_database: Database, cipher: Cipher) -> None:
    insert(each_database, cipher, SHARED, "my secret", origin=b"a" * 16)
    Forgetting(each_database, cipher, b"a" * 16).run()
    again = insert(each_database, cipher, SHARED, "my secret", origin=b"a" * 16)
    with each_database.read() as session:
        assert b"my secret" in (get_call(session, cipher, again).request_body or b"")


@pytest.mark.parametrize("origin", [b"a" * 16, b"b" * 16])
def test_what_is_said_during_a_forgetting_stays(each_database: Database, cipher: Cipher, origin: bytes) -> None:
    """By somebody else or the same; the search is over, or has passed the place where the new call stands."""
    insert(each_database, cipher, SHARED, "secret", origin=b"a" * 16)
    forgetting = Forgetting(each_database, cipher, b"a" * 16)
    forgetting.collect()
    before = insert(each_database, cipher, SHARED, "mine", origin=origin)
    forgetting.spare()
    after = insert(each_database, cipher, SHARED, "mine", origin=origin)
    assert forgetting.delete() == 1
    with each_database.read() as session:
        for kept in (before, after):
            assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")
    assert b"secret" not in log(each_database, cipher)


def test_a_forgetting_holds_up_nobody(each_database: Database, cipher: Cipher) -> None:
    for number in range(60):
        insert(each_database, cipher, f"hers {number}", origin=b"b" * 16)
        insert(each_database, cipher, f"his {number}", origin=b"a" * 16)
    forgetting = threading.Thread(target=Forgetting(each_database, cipher, b"a" * 16, batch=1).run)
    added = 0
    forgetting.start()
    while forgetting.is_alive():
        insert(each_database, cipher, f"new {added}", origin=b"c" * 16)
        added += forgetting.is_alive()
    assert added > 3
    with each_database.read() as session:
        assert count_calls(session) >= 60 + added
    left = log(each_database, cipher)
    assert b"his" not in left
    assert all(f"hers {number}.".encode() in left for number in range(60))
    assert all(f"new {number}.".encode() in left for number in range(added))


@pytest.mark.parametrize("other", [b"a" * 16, b"b" * 16])
def test_two_forgettings_at_once_leave_nothing_of_either(each_database: Database, cipher: Cipher, other: bytes) -> None:
    """Of one origin, or of two that said the same."""
    for number in range(8):
        insert(each_database, cipher, SHARED, f"secret {number}", origin=b"a" * 16)
        insert(each_database, cipher, SHARED, f"secret {number}", origin=b"b" * 16)
    both = [
        threading.Thread(target=Forgetting(each_database, cipher, origin, batch=1).run) for origin in (b"a" * 16, other)
    ]
    for forgetting in both:
        forgetting.start()
    for forgetting in both:
        forgetting.join()
    if other == b"a" * 16:
        Forgetting(each_database, cipher, b"b" * 16).run()
    assert count(each_database, Call) == 0
    assert b"secret" not in log(each_database, cipher)
    assert b"rules of the house" not in log(each_database, cipher)


def add_copy(database: Database, cipher: Cipher, call_id: bytes, at: datetime | None = None) -> bytes:
    copy_id = new_call_id()
    record = CopyRecord(
        copy_id=copy_id, kind="audit", call_id=call_id, at_ns=int((at or datetime.now(UTC)).timestamp() * 1e9),
        endpoint="chat", cluster_id="c", promotion_id=1, slm="s", model="m", outcome="answered", status=200,
        duration_ms=1.0,
    )  # fmt: skip
    with database.write() as session:
        insert_copies(session, cipher, [(record, CopyFacts(answer=b"my secret", cost_usd=0.5))])
    return copy_id


def test_copies_are_forgotten_with_their_calls(each_database: Database, cipher: Cipher) -> None:
    hers, his = (insert(each_database, cipher, "hello", origin=origin * 16) for origin in (b"a", b"b"))
    add_copy(each_database, cipher, hers)
    kept = add_copy(each_database, cipher, his)
    Forgetting(each_database, cipher, b"a" * 16).run()
    with each_database.read() as session:
        assert [copied.row.copy_id for copied in list_copies(session, cipher)] == [kept]


def test_a_copy_that_comes_after_its_call_was_forgotten_says_nothing(each_database: Database, cipher: Cipher) -> None:
    late = insert(each_database, cipher, "hello", origin=b"a" * 16)
    Forgetting(each_database, cipher, b"a" * 16).run()
    add_copy(each_database, cipher, late)
    with each_database.read() as session:
        [copied] = list_copies(session, cipher)
        assert (copied.answer, copied.row.cost_usd) == (None, 0.5)


def test_copies_are_no_older_than_the_log(each_database: Database, cipher: Cipher) -> None:
    then = datetime.now(UTC) - timedelta(days=100)
    old = insert(each_database, cipher, "then", at=then)
    add_copy(each_database, cipher, old)
    add_copy(each_database, cipher, b"s" * 16, at=then)  # whose call is gone already
    kept = add_copy(each_database, cipher, insert(each_database, cipher, "now"))
    with each_database.write() as session:
        assert delete_older_than(session, 90) == 1
    with each_database.read() as session:
        assert [copied.row.copy_id for copied in list_copies(session, cipher)] == [kept]


def test_calls_without_a_credential_are_forgotten_and_imported_ones_are_not(
    each_database: Database, cipher: Cipher
) -> None:
    insert(each_database, cipher, "keyless", origin=b"")
    imported = insert(each_database, cipher, "imported", origin=b"", source="import:jsonl")
    assert Forgetting(each_database, cipher, b"").run() == 1
    with each_database.read() as session:
        assert get_call(session, cipher, imported).row.source == "import:jsonl"


def test_old_calls_go_in_batches_and_all_they_said_after_them(each_database: Database, cipher: Cipher) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    for number in range(5):
        insert(each_database, cipher, SHARED, f"then {number}", at=old)
    kept = insert(each_database, cipher, SHARED, "now")
    with each_database.write() as session:
        assert [delete_older_than(session, 90, limit=3) for _ in range(3)] == [3, 2, 0]
        assert [delete_unused_pieces(session, 90, limit=4) for _ in range(3)] == [True, False, False]
    assert b"then" not in log(each_database, cipher)
    assert count(each_database, SharedPiece) == 2
    with each_database.read() as session:
        assert count_calls(session) == 1
        assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")


def test_a_call_can_be_read_as_long_as_it_is_kept(each_database: Database, cipher: Cipher) -> None:
    """Each day the agent says again what it said before: nobody may be left with a piece of a day that is gone."""
    now = datetime.now(UTC) + timedelta(minutes=1)  # the call of five days ago has a minute left
    ids = {
        day: insert(each_database, cipher, SHARED, f"day {day}", at=now - timedelta(days=day))
        for day in (8, 7, 6, 5, 1)
    }
    assert count(each_database, Block) == 5
    with each_database.write() as session:
        assert delete_older_than(session, 5) == 3
        delete_unused_pieces(session, 5)
    with each_database.read() as session:
        for day in (5, 1):
            body = get_call(session, cipher, ids[day]).request_body or b""
            assert b"rules of the house" in body
            assert b"day %d" % day in body
    assert b"day 8" not in log(each_database, cipher)
    assert b"day 7" not in log(each_database, cipher)
    after = insert(each_database, cipher, SHARED, "now")
    with each_database.read() as session:
        assert b"rules of the house" in (get_call(session, cipher, after).request_body or b"")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_and_goes_what_is_kept_is_whole_and_nothing_else_is_there(
    each_database: Database, cipher: Cipher, seed: int
) -> None:
    chance = random.Random(seed)
    now = datetime.now(UTC)
    kept: dict[bytes, tuple[bytes, int, list[str]]] = {}
    for _ in range(40):
        origin, age = chance.choice([b"a", b"b", b"c"]) * 16, chance.randrange(8)
        said = chance.sample([f"words {n} of someone" for n in range(12)], 3)
        match chance.randrange(8):
            case 0:
                Forgetting(each_database, cipher, origin, batch=2).run()
                kept = {call_id: call for call_id, call in kept.items() if call[0] != origin}
            case 1:
                with each_database.write() as session:
                    delete_older_than(session, days=5)
                    delete_unused_pieces(session, days=5)
                kept = {call_id: call for call_id, call in kept.items() if call[1] < 5}
            case _:
                call_id = insert(each_database, cipher, SHARED, *said, origin=origin, at=now - timedelta(days=age))
                kept[call_id] = (origin, age, said)
    with each_database.read() as session:
        for call_id, (_, _, said) in kept.items():
            body = json.loads(get_call(session, cipher, call_id).request_body or b"")
            assert [message["content"].rstrip(".") for message in body["messages"]][1:] == said
        assert count_calls(session) == len(kept)
        day = int(now.timestamp() // 86_400) - 5  # older blocks go by whole days
        young = session.scalars(select(Block.data).where(Block.day > day))
        found = b"".join(b"".join(unseal(cipher, data)) for data in young)
    assert set(re.findall(rb"words \d+ of", found)) <= {
        one.encode()[:-8] for _, _, said in kept.values() for one in said
    }


def test_a_message_is_not_deleted_under_a_call_that_is_just_being_added(
    each_database: Database, cipher: Cipher, tmp_path: Path
) -> None:
    insert(each_database, cipher, SHARED, origin=b"a" * 16)
    deleted: list[int] = []

    def forget() -> None:
        deleted.append(Forgetting(each_database, cipher, b"a" * 16).run())

    record = make_record(json.dumps({"messages": [{"role": "user", "content": SHARED}]}).encode(), origin=b"b" * 16)
    forgetting = threading.Thread(target=forget)
    with each_database.write() as session:
        insert_calls(session, cipher, [(record, CallFacts())])  # finds the message there, and stores it not again
        forgetting.start()
        time.sleep(0.3)
        assert deleted == []
    forgetting.join()
    assert deleted == [1]
    with each_database.read() as session:
        assert get_call(session, cipher, record.call_id).request_body == record.request_body


def test_a_damaged_block_of_others_stops_no_forgetting_and_one_of_theirs_is_said(
    each_database: Database, cipher: Cipher
) -> None:
    insert(each_database, cipher, "theirs, in a block of its own" * 20, origin=b"a" * 16)
    insert(each_database, cipher, "others'", origin=b"b" * 16)
    damage_block(each_database)
    assert Forgetting(each_database, cipher, b"a" * 16).run() == 1
    with pytest.raises(Undecipherable):
        Forgetting(each_database, cipher, b"b" * 16).run()
    assert count(each_database, Call) == 1


def test_what_was_said_of_a_call_goes_with_it(each_database: Database, cipher: Cipher) -> None:
    then = datetime.now(UTC) - timedelta(days=100)
    old, hers, his = (
        insert(each_database, cipher, "then", at=then),
        insert(each_database, cipher, "hello", origin=b"a" * 16),
        insert(each_database, cipher, "hello", origin=b"b" * 16),
    )
    with each_database.write() as session:
        for call_id in (old, hers, his):
            give_feedback(session, cipher, call_id, "jo", -1.0, "my secret")
    with each_database.write() as session:
        assert delete_older_than(session, 90) == 1
    Forgetting(each_database, cipher, b"a" * 16).run()
    with each_database.read() as session:
        assert [row.call_id for row in session.scalars(select(FeedbackRow))] == [his]

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, update

from storage.cipher import Cipher
from storage.database import Database
from storage.models import StoredMessage
from storage.records import CallFacts
from storage.repositories.calls import count_calls, get_call, insert_calls
from storage.repositories.forgetting import Forgetting
from storage.repositories.retention import delete_older_than, delete_unused_messages
from tests.storage.conftest import make_record

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


def messages(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(StoredMessage)) or 0


def test_a_forgotten_origin_leaves_nothing_that_only_it_said(each_database: Database, cipher: Cipher) -> None:
    for number in range(3):
        insert(each_database, cipher, SHARED, f"my secret {number}", origin=b"a" * 16)
    kept = insert(each_database, cipher, SHARED, "mine", origin=b"b" * 16)
    assert messages(each_database) == 5
    assert Forgetting(each_database, cipher, b"a" * 16, batch=2).run() == 3
    assert messages(each_database) == 2
    with each_database.read() as session:
        assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")
    assert Forgetting(each_database, cipher, b"a" * 16).run() == 0


def test_what_somebody_else_says_during_a_forgetting_stays(each_database: Database, cipher: Cipher) -> None:
    """Its search is over, or has passed the place where the new call stands."""
    insert(each_database, cipher, SHARED, "secret", origin=b"a" * 16)
    forgetting = Forgetting(each_database, cipher, b"a" * 16)
    forgetting.collect()
    forgetting.spare()
    kept = insert(each_database, cipher, SHARED, "mine", origin=b"b" * 16)
    assert forgetting.delete() == 1
    with each_database.read() as session:
        assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")
    assert messages(each_database) == 2


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
    assert messages(each_database) >= 60 + added


def test_calls_without_a_credential_are_forgotten_and_imported_ones_are_not(
    each_database: Database, cipher: Cipher
) -> None:
    insert(each_database, cipher, "keyless", origin=b"")
    imported = insert(each_database, cipher, "imported", origin=b"", source="import:jsonl")
    assert Forgetting(each_database, cipher, b"").run() == 1
    with each_database.read() as session:
        assert get_call(session, cipher, imported).row.source == "import:jsonl"


def test_old_calls_go_in_batches_and_their_messages_after_them(each_database: Database, cipher: Cipher) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    for number in range(5):
        insert(each_database, cipher, SHARED, f"then {number}", at=old)
    with each_database.write() as session:
        session.execute(update(StoredMessage).values(last_used_at=old))
    kept = insert(each_database, cipher, SHARED, "now")  # notes that the shared one is in use
    with each_database.write() as session:
        assert [delete_older_than(session, 90, limit=3) for _ in range(3)] == [3, 2, 0]
        assert [delete_unused_messages(session, 90, limit=4) for _ in range(3)] == [4, 1, 0]
    with each_database.read() as session:
        assert count_calls(session) == 1
        assert b"rules of the house" in (get_call(session, cipher, kept).request_body or b"")


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

"""Logs of earlier versions, written here as those versions wrote them."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
import sqlalchemy as sa
import zstandard
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.ids import new_call_id
from storage.migrations import HERE, newest_version
from storage.records import CallFacts
from storage.repositories.calls import count_calls, get_call, insert_calls
from storage.repositories.forgetting import Forgetting
from storage.repositories.promotions import current_promotions
from tests.storage.conftest import make_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = [json.dumps({"role": "user", "content": f"message {n} " * 10}).encode() for n in range(3)]


def hash_of(message: bytes) -> bytes:
    return message[40:56]


def make_log(database: Database, cipher: Cipher) -> list[bytes]:
    """A log of revision 0002: a row for each message; templates and unserved answers in the rows of the calls.

    Returns:
        The ids of three calls: that said one message; two, with an answer that was not served; nothing that was kept.
    """
    dictionary = zstandard.train_dictionary(1024, [b"%d says %d" % (n, n * n) * 4 for n in range(2000)], dict_id=1)

    def pack(data: bytes, trained: zstandard.ZstdCompressionDict | None = None) -> bytes:
        return cipher.encrypt(zstandard.ZstdCompressor(dict_data=trained).compress(data))

    def body(*parts: bytes | list[bytes]) -> bytes:
        return pack(msgspec.msgpack.encode([parts]), dictionary)

    attempts = [{"upstream": "slm", "outcome": "output_invalid"}, {"upstream": "llm", "outcome": "served"}]
    ids = [new_call_id() for _ in range(3)]
    calls = [
        {"call_id": ids[0], "origin": b"a" * 16, "attempts": [], "log": "full",
         "request_body": body(b'{"messages":[', [hash_of(SAID[0])], b"]}"), "response_body": body(b"{}")},
        {"call_id": ids[1], "origin": b"b" * 16, "attempts": attempts, "log": "full",
         "request_body": body(b'{"messages":[', [hash_of(SAID[0])], b", ", [hash_of(SAID[1])], b"]}"),
         "response_body": None, "attempt_answers": pack(msgspec.msgpack.encode([b"unserved", b""]))},
        {"call_id": ids[2], "origin": b"b" * 16, "attempts": attempts, "log": "metadata"},
    ]  # fmt: skip
    rest = {
        "arrived_at": NOON, "method": "POST", "path": "/v1/chat/completions", "endpoint": "chat", "status": 200,
        "served_by": "llm", "upstream": "llm", "reason": "matched", "duration_ms": 1.0, "ended": "finished",
        "request_content_type": "", "response_content_type": "", "response_content_encoding": "", "stream": False,
        "tokens_estimated": False, "tool_calls": [], "wasted_usd": 0.0, "request_body": None, "response_body": None,
        "attempt_answers": None,
    }  # fmt: skip
    config = Config()
    config.set_main_option("script_location", str(HERE))
    with sa.create_engine(database.url, poolclass=sa.NullPool).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        tables = sa.MetaData()
        tables.reflect(connection)
        said = [{"message_hash": hash_of(one), "body": pack(one), "last_used_at": NOON} for one in SAID]
        trained = {"dictionary_id": 1, "body": cipher.encrypt(dictionary.as_bytes()), "created_at": NOON}
        connection.execute(tables.tables["messages"].insert(), said)
        connection.execute(tables.tables["dictionaries"].insert(), trained)
        connection.execute(tables.tables["calls"].insert(), [rest | call for call in calls])
    return ids


def test_the_calls_of_an_older_log_are_all_there(empty_database: Database, cipher: Cipher) -> None:
    one, two, nothing = make_log(empty_database, cipher)
    empty_database.upgrade(cipher)
    with empty_database.read() as session:
        first, second, third = (get_call(session, cipher, call_id) for call_id in (one, two, nothing))
    assert first.request_body == b'{"messages":[' + SAID[0] + b"]}"
    assert (first.response_body, first.attempt_answers, first.row.arrived_at) == (b"{}", (), NOON)
    assert second.request_body == b'{"messages":[' + SAID[0] + b", " + SAID[1] + b"]}"
    assert (second.response_body, second.attempt_answers) == (None, (b"unserved", b""))
    assert (third.request_body, third.response_body, third.attempt_answers) == (None, None, (b"", b""))


def test_an_older_log_goes_on_and_forgets(empty_database: Database, cipher: Cipher) -> None:
    one, *_ = make_log(empty_database, cipher)
    empty_database.upgrade(cipher)
    record = make_record(b'{"messages":[' + SAID[1] + b"]}", arrived_at_ns=int(NOON.timestamp() * 1e9))
    with empty_database.write() as session:
        assert insert_calls(session, cipher, [(record, CallFacts())]) == [True]
    assert Forgetting(empty_database, cipher, b"b" * 16).run() == 2
    with empty_database.read() as session:
        assert get_call(session, cipher, record.call_id).request_body == record.request_body
        assert get_call(session, cipher, one).request_body == b'{"messages":[' + SAID[0] + b"]}"
        assert count_calls(session) == 2


@pytest.mark.parametrize(("share", "asked"), [(None, None), (0.1, 0.1), (0.0, 0.0), (1.0, None)])
def test_an_audit_share_that_was_asked_for_is_known_as_such(
    empty_database: Database, cipher: Cipher, share: float | None, asked: float | None
) -> None:
    """A share of 1 was the watch's, for a thin certificate."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    with sa.create_engine(empty_database.url, poolclass=sa.NullPool).begin() as connection:
        config.attributes |= {"connection": connection, "cipher": cipher}
        command.upgrade(config, "0008")
        tables = sa.MetaData()
        tables.reflect(connection)
        row = {
            "cluster_id": "c-1", "model": "m", "stage": "live", "share": 1.0, "slm": "gpu", "forced": False,
            "actor": "a", "created_at": NOON, "audit_share": share,
        }  # fmt: skip
        connection.execute(tables.tables["promotions"].insert(), [row])
    empty_database.upgrade(cipher)
    with empty_database.read() as session:
        [promotion] = current_promotions(session)
        assert (promotion.audit_share, promotion.asked_audit_share) == (share, asked)


def test_an_older_log_of_another_key_stays_as_it_is(empty_database: Database, cipher: Cipher) -> None:
    one, *_ = make_log(empty_database, cipher)
    with pytest.raises(DatabaseDown, match="another key"):
        empty_database.upgrade(Cipher(b"o" * 32))
    empty_database.upgrade(cipher)
    with empty_database.read() as session:
        assert get_call(session, cipher, one).request_body == b'{"messages":[' + SAID[0] + b"]}"


def test_the_steps_are_named_after_their_numbers() -> None:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    assert ScriptDirectory.from_config(config).get_current_head() == newest_version()


def test_a_log_of_a_later_version_is_left_alone(empty_database: Database, cipher: Cipher) -> None:
    empty_database.upgrade(cipher)
    with empty_database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseDown, match="9999"):
        empty_database.upgrade(cipher)

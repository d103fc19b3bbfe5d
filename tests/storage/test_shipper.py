import gzip
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update
from structlog.testing import capture_logs

from storage.cipher import Cipher, Undecipherable
from storage.database import Database
from storage.errors import DatabaseDown
from storage.ids import format_call_id
from storage.models import Block, State
from storage.records import Attempt, CallFacts, CallRecord
from storage.repositories.calls import (
    count_calls,
    find_calls,
    get_call,
    insert_calls,
    iter_calls,
)
from storage.repositories.state import LOG_KEY
from storage.shipper import Shipper
from storage.spool import Spool, read_segment, segments
from tests.storage.conftest import damage_block, make_record, no_facts


def fill(spool_dir: Path, cipher: Cipher, count: int, said: str = "p" * 60, **changes: object) -> list[bytes]:
    spool = Spool(spool_dir, cipher)
    records = [make_record(f'{{"messages":[{{"n":{i},"pad":"{said}"}}]}}'.encode(), **changes) for i in range(count)]
    for record in records:
        spool.append(record)
    spool.close()
    return [record.call_id for record in records]


def make_shipper(tmp_path: Path, database: Database, cipher: Cipher) -> Shipper:
    return Shipper(tmp_path / "spool", database, cipher, read_facts=no_facts, on_shipped=lambda calls: None)


def test_calls_reach_the_database_with_exactly_their_bytes(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    request = b'{ "messages" : [ {"role":"user", "content":"' + b"\xc3\xa4" * 40 + b'"} ],\n"model":"m" }'
    record = make_record(request, b"data: {}\n\ndata: [DONE]\n\n", cluster_id="c1", agent="a")
    spool.append(record)
    spool.close()
    assert make_shipper(tmp_path, database, cipher).ship_once() == 1
    with database.read() as session:
        stored = get_call(session, cipher, record.call_id)
        assert (stored.request_body, stored.response_body) == (request, b"data: {}\n\ndata: [DONE]\n\n")
        assert (stored.row.cluster_id, stored.row.agent, stored.row.duration_ms) == ("c1", "a", 12.5)
        assert [call.call_id for call in find_calls(session, cluster_id="c1")] == [record.call_id]
    assert segments(tmp_path / "spool") == []


def test_a_segment_shipped_twice_adds_nothing(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    fill(tmp_path / "spool", cipher, 5)
    [segment] = segments(tmp_path / "spool")
    again = segment.read_bytes()
    shipper = make_shipper(tmp_path, database, cipher)
    assert shipper.ship_once() == 5
    segment.write_bytes(again)
    assert shipper.ship_once() == 0
    with database.read() as session:
        assert count_calls(session) == 5


def test_two_shippers_at_once_add_each_call_once(tmp_path: Path, each_database: Database, cipher: Cipher) -> None:
    for _ in range(6):
        fill(tmp_path / "spool", cipher, 20)
    shipped: list[int] = []

    def ship() -> None:
        for _ in range(20):
            try:
                shipped.append(make_shipper(tmp_path, each_database, cipher).ship_once())
            except DatabaseDown:
                continue

    threads = [threading.Thread(target=ship) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with each_database.read() as session:
        assert count_calls(session) == 120
    assert sum(shipped) == 120


def test_a_locked_database_leaves_the_segment_in_the_spool(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    fill(tmp_path / "spool", cipher, 3)
    shipper = make_shipper(tmp_path, database, cipher)
    blocker = sqlite3.connect(tmp_path / "understudy.db")
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseDown):
        shipper.ship_once()
    assert len(segments(tmp_path / "spool")) == 1
    blocker.rollback()
    blocker.close()
    assert shipper.ship_once() == 3


def test_a_deleted_database_is_made_again(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    fill(tmp_path / "spool", cipher, 2)
    shipper = make_shipper(tmp_path, database, cipher)
    shipper.ship_once()
    for path in tmp_path.glob("understudy.db*"):
        path.unlink()
    ids = fill(tmp_path / "spool", cipher, 2)
    stop = threading.Event()
    thread = threading.Thread(target=shipper.run, args=(stop,))
    thread.start()
    for _ in range(100):
        if not segments(tmp_path / "spool"):
            break
        stop.wait(0.1)
    stop.set()
    thread.join()
    with database.read() as session:
        assert {call.call_id for call in find_calls(session)} == set(ids)


def test_a_damaged_record_is_set_aside_and_its_neighbours_are_kept(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    fill(tmp_path / "spool", cipher, 9)
    [segment] = segments(tmp_path / "spool")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    set_aside: list[int] = []
    shipper = Shipper(
        tmp_path / "spool", database, cipher, read_facts=no_facts, on_shipped=lambda calls: None,
        on_set_aside=set_aside.append,
    )  # fmt: skip
    assert shipper.ship_once() == 8
    assert os.listdir(tmp_path / "spool" / "quarantine") == [segment.name]
    assert set_aside == [1]


def test_a_record_that_the_database_refuses_holds_up_nobody(
    tmp_path: Path, each_database: Database, cipher: Cipher
) -> None:
    ids = fill(tmp_path / "spool", cipher, 9)

    def read_facts(record: CallRecord) -> CallFacts:
        return CallFacts(input_tokens=2**80 if record.call_id == ids[3] else 1)

    told: list[bytes] = []
    set_aside: list[int] = []
    shipper = Shipper(
        tmp_path / "spool",
        each_database,
        cipher,
        read_facts=read_facts,
        on_shipped=lambda calls: told.extend(record.call_id for record, _ in calls),
        on_set_aside=set_aside.append,
    )
    assert shipper.ship_once() == 8
    assert set_aside == [1]
    assert sorted(told) == sorted(set(ids) - {ids[3]})
    assert segments(tmp_path / "spool") == []
    [aside] = (tmp_path / "spool" / "quarantine").iterdir()
    assert [record.call_id for record in read_segment(aside, cipher)] == [ids[3]]
    aside.rename(tmp_path / "spool" / aside.name)  # as a person does once the reason is gone
    assert make_shipper(tmp_path, each_database, cipher).ship_once() == 1


def test_a_record_that_cant_be_read_or_counted_is_shipped_all_the_same(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    fill(tmp_path / "spool", cipher, 3)

    def fails(_: object) -> CallFacts:
        raise ValueError("odd")

    shipper = Shipper(tmp_path / "spool", database, cipher, read_facts=fails, on_shipped=fails)
    assert shipper.ship_once() == 3
    with database.read() as session:
        assert count_calls(session) == 3


def test_hostile_text_is_stored_with_what_can_be_read_of_it(
    tmp_path: Path, each_database: Database, cipher: Cipher
) -> None:
    [call_id] = fill(tmp_path / "spool", cipher, 1, agent="a\0b", path="/v1/\0")
    hostile = CallFacts(model_requested="m\ud800", tool_calls=("t\0",), finish_reason="\udfff")
    shipper = Shipper(
        tmp_path / "spool", each_database, cipher, read_facts=lambda _: hostile, on_shipped=lambda calls: None
    )
    assert shipper.ship_once() == 1
    with each_database.read() as session:
        row = get_call(session, cipher, call_id).row
        assert (row.agent, row.path, row.model_requested) == ("a\ufffdb", "/v1/\ufffd", "m\ufffd")


def test_a_compressed_answer_is_redacted_or_not_kept(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    answer = b'{"choices":[{"message":{"content":"ask jane.doe@example.com"}}]}'
    spool = Spool(tmp_path / "spool", cipher)
    zipped = make_record(response=gzip.compress(answer), response_content_encoding="gzip", log="redacted")
    unknown = make_record(response=b"?", response_content_encoding="br", log="redacted")
    spool.append(zipped)
    spool.append(unknown)
    spool.close()
    make_shipper(tmp_path, database, cipher).ship_once()
    with database.read() as session:
        stored = get_call(session, cipher, zipped.call_id)
        assert stored.response_body == answer.replace(b"jane.doe@example.com", b"[EMAIL]")
        assert stored.row.response_content_encoding == ""
        assert get_call(session, cipher, unknown.call_id).response_body is None


@pytest.mark.parametrize("log", ["full", "redacted", "metadata"])
def test_what_an_slm_said_in_vain_is_kept_as_far_as_the_level_allows(
    tmp_path: Path, each_database: Database, cipher: Cipher, log: str
) -> None:
    said = b'{"choices":[{"message":{"content":"ask jane.doe@example.com"}}]}'
    attempts = (Attempt("a", "slm", "slm_timeout", None, 9.0), Attempt("b", "slm", "output_invalid", 200, 5.0, said))
    [call_id] = fill(tmp_path / "spool", cipher, 1, attempts=attempts, log=log)
    make_shipper(tmp_path, each_database, cipher).ship_once()
    with each_database.read() as session:
        stored = get_call(session, cipher, call_id)
    kept = {"full": said, "redacted": said.replace(b"jane.doe@example.com", b"[EMAIL]"), "metadata": b""}[log]
    assert stored.attempt_answers == (b"", kept)
    assert [attempt["outcome"] for attempt in stored.row.attempts] == ["slm_timeout", "output_invalid"]


def test_bodies_are_left_out_or_blacked_out_as_the_record_says(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    body = b'{"messages":[{"role":"user","content":"mail jane.doe@example.com, card 4111 1111 1111 1111"}]}'
    metadata, redacted = make_record(body, log="metadata"), make_record(body, log="redacted")
    spool.append(metadata)
    spool.append(redacted)
    spool.close()
    make_shipper(tmp_path, database, cipher).ship_once()
    with database.read() as session:
        assert get_call(session, cipher, metadata.call_id).request_body is None
        kept = get_call(session, cipher, redacted.call_id).request_body
    assert kept == b'{"messages":[{"role":"user","content":"mail [EMAIL], card [NUMBER]"}]}'


def test_bodies_in_the_database_file_are_unreadable_without_the_key(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    spool.append(make_record(b'{"messages":[{"content":"' + b"very secret words " * 9 + b'"}]}', b"secret answer"))
    spool.close()
    assert all(b"secret" not in path.read_bytes() for path in segments(tmp_path / "spool"))
    make_shipper(tmp_path, database, cipher).ship_once()
    with database.write() as session:
        session.execute(text("SELECT 1"))
    assert all(b"secret" not in path.read_bytes() for path in tmp_path.glob("understudy.db*"))


def test_calls_are_read_in_batches_in_the_order_of_their_ids(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    ids = fill(tmp_path / "spool", cipher, 600)
    make_shipper(tmp_path, database, cipher).ship_once()
    with database.read() as session:
        read = list(iter_calls(session, cipher, batch=70))
    assert [call.row.call_id for call in read] == ids
    assert read[5].request_body == f'{{"messages":[{{"n":5,"pad":"{"p" * 60}"}}]}}'.encode()


def test_a_schema_of_a_newer_version_keeps_calls_in_the_spool(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    fill(tmp_path / "spool", cipher, 2)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseDown):
        make_shipper(tmp_path, database, cipher).ship_once()
    assert len(segments(tmp_path / "spool")) == 1


def test_a_segment_that_can_not_be_read_holds_up_no_other(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    (tmp_path / "spool" / "00000000000000000000-1-0.seg").mkdir(parents=True)
    ids = fill(tmp_path / "spool", cipher, 2)
    stop = threading.Event()
    stop.set()
    make_shipper(tmp_path, database, cipher).run(stop)
    with database.read() as session:
        assert {call.call_id for call in find_calls(session)} == set(ids)


def test_a_database_of_another_key_stops_the_shipping_and_not_the_shipper(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    fill(tmp_path / "spool", cipher, 2)
    with database.write() as session:
        insert_calls(session, Cipher(b"o" * 32), [(make_record(), CallFacts())])
    stop = threading.Event()
    stop.set()
    make_shipper(tmp_path, database, cipher).run(stop)
    assert len(segments(tmp_path / "spool")) == 1


def assert_only_these_are_readable(database: Database, cipher: Cipher, new: list[CallRecord], old: list[bytes]) -> None:
    damaged: list[bytes] = []
    with database.read() as session:
        read = list(iter_calls(session, cipher, on_damaged=lambda call: damaged.append(call.call_id)))
        assert {call.row.call_id: call.request_body for call in read} == {
            call.call_id: call.request_body for call in new
        }
        assert set(damaged) == set(old)
        assert {call.call_id for call in find_calls(session)} == set(old) | {call.call_id for call in new}
        for call in new:
            assert get_call(session, cipher, call.call_id).response_body == call.response_body
        for call_id in old:
            with pytest.raises(Undecipherable, match=f"^what call {format_call_id(call_id)} said lies in a damaged"):
                get_call(session, cipher, call_id)


@pytest.mark.parametrize("place", [-1, 20])
def test_a_damaged_block_costs_its_own_calls_and_no_others(
    tmp_path: Path, each_database: Database, cipher: Cipher, place: int
) -> None:
    """Calls that come after it say the same, and are as many as would be joined with it."""
    old = fill(tmp_path / "spool", cipher, 3)
    shipper = make_shipper(tmp_path, each_database, cipher)
    assert shipper.ship_once() == 3
    damage_block(each_database, place=place)
    new: list[CallRecord] = []
    with capture_logs() as lines:
        for count in (1, 2, 5, 9):
            fill(tmp_path / "spool", cipher, count)
            new += [record for path in segments(tmp_path / "spool") for record in read_segment(path, cipher)]
            assert shipper.ship_once() == count
    assert lines == [{"event": "block.damaged", "block": 0, "log_level": "warning"}]
    assert_only_these_are_readable(each_database, cipher, new, old)


def test_a_block_that_no_longer_unpacks_is_passed_by_too(tmp_path: Path, database: Database, cipher: Cipher) -> None:
    old = fill(tmp_path / "spool", cipher, 3)
    make_shipper(tmp_path, database, cipher).ship_once()
    with database.write() as session:
        session.execute(update(Block).values(data=cipher.encrypt(b"no zstd frame")))
    fill(tmp_path / "spool", cipher, 5)
    [segment] = segments(tmp_path / "spool")
    new = list(read_segment(segment, cipher))
    assert make_shipper(tmp_path, database, cipher).ship_once() == 5
    assert_only_these_are_readable(database, cipher, new, old)


def test_a_damaged_block_behind_a_good_one_is_joined_with_nothing(
    tmp_path: Path, database: Database, cipher: Cipher
) -> None:
    shipper = make_shipper(tmp_path, database, cipher)
    old = fill(tmp_path / "spool", cipher, 4)
    shipper.ship_once()
    good = make_record(b'{"n":1}')  # too little to be joined with what is there
    with database.write() as session:
        insert_calls(session, cipher, [(good, CallFacts())])
    damage_block(database, number=0)
    fill(tmp_path / "spool", cipher, 9, said="later" * 12)
    [segment] = segments(tmp_path / "spool")
    new = [good, *read_segment(segment, cipher)]
    with capture_logs() as lines:
        assert shipper.ship_once() == 9
    assert [line["event"] for line in lines] == ["block.damaged"]
    assert_only_these_are_readable(database, cipher, new, old)


@pytest.mark.parametrize("noted", [True, False])
def test_a_log_of_another_key_is_not_taken_for_a_damaged_one(
    tmp_path: Path, each_database: Database, cipher: Cipher, noted: bool
) -> None:
    fill(tmp_path / "spool", cipher, 3)
    make_shipper(tmp_path, each_database, cipher).ship_once()
    if not noted:  # by the versions that made the first blocks
        with each_database.write() as session:
            session.execute(delete(State).where(State.name == LOG_KEY))
    other = Cipher(b"o" * 32)
    with each_database.read() as session, pytest.raises(Undecipherable, match="another key file"):
        list(iter_calls(session, other))
    with each_database.write() as session, pytest.raises(Undecipherable, match="another key file"):
        insert_calls(session, other, [(make_record(), CallFacts())])
    fill(tmp_path / "spool", cipher, 2)
    assert make_shipper(tmp_path, each_database, cipher).ship_once() == 2

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.models import Block
from storage.records import CallFacts, CallRecord


def make_record(
    request: bytes = b'{"model":"m","messages":[]}', response: bytes = b"{}", **changes: object
) -> CallRecord:
    values: dict[str, object] = {
        "call_id": new_call_id(),
        "arrived_at_ns": 1_767_000_000_000_000_000,
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat",
        "status": 200,
        "served_by": "llm",
        "upstream": "llm",
        "reason": "no_snapshot",
        "duration_ms": 12.5,
        "first_token_ms": 11.0,
        "ended": "finished",
        "request_body": request,
        "response_body": response,
    }
    return CallRecord(**(values | changes))  # type: ignore[arg-type]


def no_facts(record: CallRecord) -> CallFacts:
    return CallFacts()


def damage_block(database: Database, number: int = -1, place: int = -1) -> None:
    """Flip a bit in a block of the log; they are counted from the oldest."""
    with database.write() as session:
        block = session.scalars(select(Block).order_by(Block.first_id)).all()[number]
        data = bytearray(block.data)
        data[place] ^= 1
        block.data = bytes(data)


@pytest.fixture
def cipher(tmp_path: Path) -> Cipher:
    return Cipher.open(tmp_path)


@pytest.fixture
def database(tmp_path: Path, cipher: Cipher) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    database.upgrade(cipher)
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Of both kinds, without tables."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'each.db'}")
    else:
        database = Database(request.getfixturevalue("postgresql").new_database())
    yield database
    database.close()


@pytest.fixture
def each_database(empty_database: Database, cipher: Cipher) -> Database:
    """The same promises on both databases."""
    empty_database.upgrade(cipher)
    return empty_database

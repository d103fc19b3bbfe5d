"""Keys in the database, on both kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from storage.database import Database
from storage.errors import NotFound, RowRefused
from storage.models import KeyRow
from storage.repositories import keys
from storage.repositories.state import serving_version


def key(number: int, **changes: Any) -> KeyRow:
    values: dict[str, Any] = {
        "key_id": f"k-{number}", "name": "bot", "key_hash": bytes([number]) * 32, "origin": bytes([number]) * 16,
        "role": None, "may_divert": True, "may_force": False, "max_log": "full", "allows_training": True,
        "created_at": datetime.now(UTC), "created_by": "cli", "revoked_at": None, "revoked_by": None,
    }  # fmt: skip
    return KeyRow(**(values | changes))


def test_every_change_makes_workers_look_again(each_database: Database) -> None:
    with each_database.write() as session:
        keys.add_key(session, key(1))
        keys.add_key(session, key(2))
        version = serving_version(session)
        keys.revoke_key(session, "k-1", "cli")
        assert serving_version(session) == version + 1
        first = keys.revoke_key(session, "k-1", "somebody else")
        assert serving_version(session) == version + 1
    assert first.revoked_by == "cli"
    with each_database.read() as session:
        assert [row.key_id for row in keys.keys_in_force(session)] == ["k-2"]
        assert {row.key_id for row in keys.list_keys(session)} == {"k-1", "k-2"}


def test_a_revoked_key_still_forbids_training_on_its_calls(each_database: Database) -> None:
    with each_database.write() as session:
        keys.add_key(session, key(1, allows_training=False))
        keys.add_key(session, key(2))
        keys.revoke_key(session, "k-1", "cli")
    with each_database.read() as session:
        assert keys.origins_without_training(session) == {"01" * 16}


def test_no_two_keys_are_the_same_and_none_is_revoked_that_is_not_there(each_database: Database) -> None:
    with each_database.write() as session:
        keys.add_key(session, key(1))
    with pytest.raises(RowRefused), each_database.write() as session:
        keys.add_key(session, key(2, key_hash=bytes([1]) * 32))
    with pytest.raises(NotFound, match="there is no key k-9"), each_database.write() as session:
        keys.revoke_key(session, "k-9", "cli")

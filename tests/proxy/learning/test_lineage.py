"""Tasks that were split, merged or are gone: said in words, and on record."""

from __future__ import annotations

from pathlib import Path

from proxy.learning.lineage import changes_of, put_on_record
from router.snapshot import Lineage
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.registry import list_audit

SPLIT = (Lineage("c-1", ("c-1",)), Lineage("c-9", ("c-1",)))
MERGED = (Lineage("c-1", ("c-1", "c-2")), Lineage(None, ("c-2",)))


def words(*lineage: Lineage) -> list[str]:
    return [change.in_words for change in changes_of(lineage)]


def test_a_split_a_merger_and_an_end_are_said_in_words() -> None:
    assert words(*SPLIT) == ["c-1 was split into c-1 and c-9"]
    assert words(*MERGED) == ["c-1 and c-2 became one: c-1"]
    assert words(Lineage(None, ("c-3",))) == ["c-3 is no more"]
    assert words(Lineage("c-1", ("c-1", "c-2", "c-3"))) == ["c-1, c-2 and c-3 became one: c-1"]


def test_a_new_task_is_no_change_of_another() -> None:
    assert words(Lineage("c-7", ())) == []


def test_changes_are_in_the_audit_trail(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    database.upgrade(Cipher(bytes(32)))
    with database.write() as session:
        put_on_record(session, changes_of((*SPLIT, Lineage(None, ("c-3",)))), "learner")
    with database.read() as session:
        gone, split = list_audit(session)
    assert (split.actor, split.action, split.subject) == ("learner", "cluster.split", "c-1")
    assert split.details == {"clusters": ["c-1", "c-9"], "in_words": "c-1 was split into c-1 and c-9"}
    assert (gone.action, gone.subject) == ("cluster.gone", "c-3")
    database.close()

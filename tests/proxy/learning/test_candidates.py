"""A task's calls as candidates: what was said of them goes with those that it was said of."""

from __future__ import annotations

from pathlib import Path

from proxy.learning.candidates import candidates_of
from storage.cipher import Cipher
from storage.database import Database
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.feedback import give_feedback
from tests.storage.conftest import make_record


def test_what_was_said_of_the_slms_answer_is_not_said_of_the_llms(tmp_path: Path) -> None:
    cipher, database = Cipher.open(tmp_path), Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    database.upgrade(cipher)
    records = [make_record(cluster_id="c-1", served_by=by) for by in ("llm", "slm", "llm")]
    with database.write() as session:
        insert_calls(session, cipher, [(record, CallFacts()) for record in records])
        for record in records[:2]:
            give_feedback(session, cipher, record.call_id, "jo", -1.0)
    with database.read() as session:
        found = candidates_of(session, cipher, "c-1", lambda line: None)
    assert [each.feedback for each in found] == [-1.0, None, None]
    database.close()

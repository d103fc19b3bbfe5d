"""Feedback: one last word of each actor on a call, sealed, and what is made of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from storage.cipher import Cipher
from storage.database import Database
from storage.errors import NotFound
from storage.models import FeedbackRow
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.feedback import (
    Opinion,
    give_feedback,
    list_feedback,
    lowest_scores,
    opinions_of_slms,
)
from tests.storage.conftest import make_record


def add_call(database: Database, cipher: Cipher, **changes: object) -> bytes:
    record = make_record(**({"cluster_id": "c-1"} | changes))
    with database.write() as session:
        insert_calls(session, cipher, [(record, CallFacts())])
    return record.call_id


def rate(database: Database, cipher: Cipher, call_id: bytes, **scores: float) -> None:
    with database.write() as session:
        for actor, score in scores.items():
            give_feedback(session, cipher, call_id, actor, score)


def test_the_last_word_of_each_counts_and_is_unreadable_without_the_key(
    each_database: Database, cipher: Cipher
) -> None:
    call_id = add_call(each_database, cipher)
    for actor, score, comment in (("jo", 1.0, None), ("al", 0.5, "fine"), ("jo", -1.0, "no: ask jo@example.org")):
        with each_database.write() as session:
            give_feedback(session, cipher, call_id, actor, score, comment)
    with each_database.read() as session:
        found = list_feedback(session, cipher, call_id)
        sealed = b"".join(comment or b"" for comment in session.scalars(select(FeedbackRow.comment)))
    assert [(each.actor, each.score, each.comment) for each in found] == [
        ("al", 0.5, "fine"),
        ("jo", -1.0, "no: ask jo@example.org"),
    ]
    assert b"jo@example" not in sealed


@pytest.mark.parametrize(
    ("log", "kept"), [("full", "ask jo@example.org"), ("redacted", "ask [EMAIL]"), ("metadata", None)]
)
def test_of_a_comment_as_much_is_kept_as_of_its_call(
    database: Database, cipher: Cipher, log: str, kept: str | None
) -> None:
    call_id = add_call(database, cipher, log=log)
    with database.write() as session:
        assert give_feedback(session, cipher, call_id, "jo", 0.0, "ask jo@example.org").comment == kept
    with database.read() as session:
        assert [each.comment for each in list_feedback(session, cipher, call_id)] == [kept]


def test_nobody_speaks_of_calls_that_are_not_there_or_not_theirs(database: Database, cipher: Cipher) -> None:
    call_id = add_call(database, cipher, origin=b"a" * 16)
    for wrong, origin in ((b"n" * 16, None), (call_id, b"b" * 16)):
        with pytest.raises(NotFound, match="no call"), database.write() as session:
            give_feedback(session, cipher, wrong, "jo", 1.0, origin=origin)
    with database.write() as session:
        give_feedback(session, cipher, call_id, "jo", 1.0, origin=b"a" * 16)


def test_a_call_is_as_good_as_the_worst_that_is_said_of_it(each_database: Database, cipher: Cipher) -> None:
    served = {"served_by": "slm", "model_resolved": "small"}
    liked, disputed, neither = (add_call(each_database, cipher, **served) for _ in range(3))
    by_llm, elsewhere = add_call(each_database, cipher), add_call(each_database, cipher, cluster_id="c-2", **served)
    rate(each_database, cipher, liked, jo=1.0, al=0.5)
    rate(each_database, cipher, disputed, jo=1.0, al=-0.5)
    rate(each_database, cipher, neither, jo=0.0)
    rate(each_database, cipher, by_llm, jo=-1.0)
    rate(each_database, cipher, elsewhere, jo=-1.0)
    with each_database.read() as session:
        assert lowest_scores(session, "c-1") == {liked: 0.5, disputed: -0.5, neither: 0.0, by_llm: -1.0}
        assert opinions_of_slms(session, "c-1") == [Opinion("small", good=1, poor=1)]

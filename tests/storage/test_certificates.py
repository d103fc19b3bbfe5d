"""Certificates and stage moves in the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from storage.database import Database
from storage.models import StageMoveRow
from storage.repositories.certificates import (
    add_certificate,
    list_certificates,
    newest_certificate,
    newest_certificates,
)
from storage.repositories.moves import add_move, last_move, list_moves

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=5)))


def keep(database: Database, cluster_id: str, model: str, content: dict[str, Any]) -> int:
    with database.write() as session:
        return add_certificate(session, cluster_id, model, NOW, content).certificate_id


def test_the_newest_certificate_counts_and_the_older_ones_stay_as_they_were(each_database: Database) -> None:
    first = keep(each_database, "c-1", "m", {"n": 59, "disagreement_bound": 0.04951, "threshold": None})
    second = keep(each_database, "c-1", "m", {"n": 12})
    keep(each_database, "c-1", "another", {"n": 1})
    keep(each_database, "c-2", "m", {"n": 2})
    with each_database.read() as session:
        newest = newest_certificate(session, "c-1", "m")
        assert newest is not None
        assert (newest.certificate_id, newest.content) == (second, {"n": 12})
        assert newest.issued_at == NOW
        assert newest.issued_at.utcoffset() == timedelta(0)
        assert newest_certificate(session, "c-2", "another") is None
        old = next(row for row in list_certificates(session, "c-1") if row.certificate_id == first)
        assert old.content == {"n": 59, "disagreement_bound": 0.04951, "threshold": None}
        assert [row.content["n"] for row in list_certificates(session, "c-1")] == [1, 12, 59]
        assert [row.content["n"] for row in newest_certificates(session)] == [2, 1, 12]


def test_every_move_is_kept_with_who_when_why_and_its_figures(each_database: Database) -> None:
    with each_database.write() as session:
        for number, (model, before, after, cause) in enumerate(
            [
                ("m", "candidate", "shadow", "evidence"),
                ("other", "candidate", "live", "forced"),
                ("m", "shadow", "retired", "asked"),
            ]
        ):
            row = StageMoveRow(
                cluster_id="c-1", model=model, from_stage=before, to_stage=after, at=datetime.now(UTC), actor="anna",
                cause=cause, reason="a test", figures={"n": number},
            )  # fmt: skip
            add_move(session, row)
    with each_database.read() as session:
        last = last_move(session, "c-1", "m")
        assert last is not None
        assert (last.to_stage, last.actor, last.cause, last.reason) == ("retired", "anna", "asked", "a test")
        assert [move.figures["n"] for move in list_moves(session, "c-1")] == [2, 1, 0]
        shadowed = last_move(session, "c-1", "m", ["evidence"])
        assert shadowed is not None
        assert shadowed.to_stage == "shadow"
        assert last_move(session, "c-1", "m", ["drift"]) is None
        assert last_move(session, "c-2", "m") is None
        assert list_moves(session, "c-2") == []

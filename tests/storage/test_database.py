import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, text

from storage.cipher import Cipher, Undecipherable
from storage.database import Database
from storage.errors import DatabaseDown, NotFound, RowRefused
from storage.models import Base, ClusterRow, PromotionRow
from storage.repositories import clusters, promotions, state

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def promotion(cluster_id: str, model: str) -> PromotionRow:
    return PromotionRow(
        cluster_id=cluster_id, model=model, stage="live", share=1.0, slm="main", forced=True, actor="admin",
        created_at=NOW,
    )  # fmt: skip


def test_the_migrations_make_the_tables_of_the_models(each_database: Database) -> None:
    with each_database.read() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_twice_changes_nothing(each_database: Database, cipher: Cipher) -> None:
    each_database.upgrade(cipher)
    each_database.ping()


def test_a_cluster_has_one_current_promotion_and_a_history(each_database: Database) -> None:
    with each_database.write() as session:
        promotions.promote(session, promotion("c", "first"))
        promotions.promote(session, promotion("c", "second"))
    with each_database.read() as session:
        assert [row.model for row in promotions.current_promotions(session)] == ["second"]
        assert [row.model for row in promotions.history(session, "c")] == ["second", "first"]
        assert state.serving_version(session) == 2
    with each_database.write() as session:
        promotions.demote(session, "c", "admin")
    with each_database.write() as session, pytest.raises(NotFound):
        promotions.demote(session, "c", "admin")


def stored_cluster(cluster_id: str) -> clusters.StoredCluster:
    return clusters.StoredCluster(
        cluster_id=cluster_id, snapshot_id="s", label="triage of Secret\ud800", contract={"labels": ["Secret"]},
        skeleton="You are Secret", calls=1, conversations=1, examples=["00"],
    )  # fmt: skip


def test_what_a_task_quotes_is_unreadable_without_the_key(each_database: Database, cipher: Cipher) -> None:
    with each_database.write() as session:
        clusters.activate_snapshot(session, cipher, "s", 1, [stored_cluster("a")])
    with each_database.read() as session:
        assert clusters.get_cluster(session, cipher, "a") == stored_cluster("a")
        [row] = session.execute(text("SELECT * FROM clusters")).all()
        assert "Secret" not in repr(row)
        with pytest.raises(Undecipherable):
            clusters.list_clusters(session, Cipher(b"o" * 32))


def test_a_task_of_an_earlier_version_is_read_in_plain_text(each_database: Database, cipher: Cipher) -> None:
    with each_database.write() as session:
        session.add(ClusterRow(**asdict(stored_cluster("a")) | {"label": "triage"}))
    with each_database.read() as session:
        [found] = clusters.list_clusters(session, cipher)
    assert (found.label, found.contract, found.skeleton) == ("triage", {"labels": ["Secret"]}, "You are Secret")


def test_a_new_snapshot_replaces_the_clusters(each_database: Database, cipher: Cipher) -> None:
    with each_database.write() as session:
        clusters.activate_snapshot(session, cipher, "s1", 10, [stored_cluster("a"), stored_cluster("b")])
    with each_database.write() as session:
        clusters.activate_snapshot(session, cipher, "s2", 12, [stored_cluster("b")])
    with each_database.read() as session:
        assert [cluster.cluster_id for cluster in clusters.list_clusters(session, cipher)] == ["b"]
        assert state.active_snapshot_id(session) == "s2"


def test_a_moment_comes_back_in_utc_wherever_it_was_noted(each_database: Database) -> None:
    noted = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=5)))
    with each_database.write() as session:
        row = promotion("c", "m")
        row.created_at = noted
        promotions.promote(session, row)
    with each_database.read() as session:
        [read] = promotions.current_promotions(session)
        assert read.created_at == noted
        assert read.created_at.utcoffset() == timedelta(0)
        assert promotions.first_promoted_at(session) == noted


@pytest.mark.usefixtures("far_from_utc")
def test_a_moment_without_a_zone_is_meant_in_utc(each_database: Database) -> None:
    with each_database.write() as session:
        row = promotion("c", "m")
        row.created_at = NOW.replace(tzinfo=None)
        promotions.promote(session, row)
    with each_database.read() as session:
        assert promotions.first_promoted_at(session) == NOW


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is set to another zone."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_text_that_no_database_holds_is_stored_with_what_can_be_read_of_it(each_database: Database) -> None:
    with each_database.write() as session:
        promotions.promote(session, promotion("c", "a\0b\ud800c é"))
    with each_database.read() as session:
        assert [row.model for row in promotions.current_promotions(session)] == ["a\ufffdb\ufffdc é"]


def test_writers_wait_for_each_other(each_database: Database) -> None:
    """Each reads first and writes then; none fails, and none overwrites what another has written."""

    with each_database.write() as session:
        state.bump_serving_version(session)

    def count_up() -> None:
        for _ in range(10):
            with each_database.write() as session:
                state.bump_serving_version(session)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(count_up) for _ in range(4)]:
            done.result()
    with each_database.read() as session:
        assert state.serving_version(session) == 41


def test_a_row_that_will_never_fit_is_told_from_a_database_that_is_away(each_database: Database) -> None:
    with each_database.write() as session:
        promotions.promote(session, promotion("c", "first"))
    second_current_one = insert(PromotionRow).values(
        cluster_id="c",
        model="m",
        stage="live",
        share=1.0,
        slm="s",
        forced=True,
        actor="a",
        created_at=NOW,
    )
    with pytest.raises(RowRefused), each_database.write() as session:
        session.execute(second_current_one)
    away = Database("sqlite:////nowhere/at/all.db")
    with pytest.raises(DatabaseDown):
        away.ping()


def test_a_database_that_is_away_is_told_in_one_line() -> None:
    database = Database("postgresql://127.0.0.1:1/x")
    with pytest.raises(DatabaseDown) as caught:
        database.ping()
    database.close()
    assert str(caught.value).startswith("the database did not answer: ")
    assert "\n" not in str(caught.value)

from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage.artifacts import ArtifactStore
from storage.database import Database
from storage.errors import ArtifactCorrupt, ArtifactMissing, NotFound
from storage.models import Base, ClusterRow, PromotionRow
from storage.repositories import clusters, promotions, state


def promotion(cluster_id: str, model: str) -> PromotionRow:
    return PromotionRow(
        cluster_id=cluster_id, model=model, stage="live", share=1.0, slm="main", forced=True, actor="admin",
        created_at=datetime.now(UTC),
    )  # fmt: skip


def test_the_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.read() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    database.upgrade()
    database.ping()


def test_a_cluster_has_one_current_promotion_and_a_history(database: Database) -> None:
    with database.write() as session:
        promotions.promote(session, promotion("c", "first"))
        promotions.promote(session, promotion("c", "second"))
    with database.read() as session:
        assert [row.model for row in promotions.current_promotions(session)] == ["second"]
        assert [row.model for row in promotions.history(session, "c")] == ["second", "first"]
        assert state.serving_version(session) == 2
    with database.write() as session:
        promotions.demote(session, "c", "admin")
    with database.write() as session, pytest.raises(NotFound):
        promotions.demote(session, "c", "admin")


def test_a_new_snapshot_replaces_the_clusters(database: Database) -> None:
    def row(cluster_id: str) -> ClusterRow:
        return ClusterRow(
            cluster_id=cluster_id,
            snapshot_id="s",
            label="l",
            contract={},
            skeleton="",
            calls=1,
            conversations=1,
            examples=[],
        )

    with database.write() as session:
        clusters.activate_snapshot(session, "s1", 10, [row("a"), row("b")])
    with database.write() as session:
        clusters.activate_snapshot(session, "s2", 12, [row("b")])
    with database.read() as session:
        assert [cluster.cluster_id for cluster in clusters.list_clusters(session)] == ["b"]
        assert state.active_snapshot_id(session) == "s2"


def test_an_artifact_that_was_touched_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    artifact_id = store.put("snapshot", {"a.json": b"{}"}, {"calls": 3})
    assert store.open(artifact_id).files == {"a.json": b"{}"}
    (tmp_path / artifact_id / "a.json").write_bytes(b"[]")
    with pytest.raises(ArtifactCorrupt, match=r"a\.json"):
        store.open(artifact_id)
    with pytest.raises(ArtifactMissing):
        store.open("snapshot-none")

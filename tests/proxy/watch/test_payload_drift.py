"""Payloads that drift: measured on the log's calls, against those that came first, in the words of a real encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.settings import Settings
from proxy.watch.payload_drift import BASELINE_CONVERSATIONS, PayloadDrift
from proxy.watch.watch import Watch
from router.learning.proof.drift import Drift
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.models import PromotionRow
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.moves import list_moves
from storage.repositories.promotions import current_promotions, promote
from tests.router.conftest import TRIAGE, encoder, snapshot_with_payloads, static, triage_text  # noqa: F401 - fixtures
from tests.storage.conftest import make_record

Kept = dict[str, Any] | None


def alien_text(number: int) -> str:
    return f"SELECT total_{number} FROM ledger WHERE quarter = {number % 4} GROUP BY account HAVING sum > {number}"


class Traffic:
    """A promoted task and its calls, all of them a minute old."""

    def __init__(self, snapshot: Snapshot, data_dir: Path) -> None:
        self.cipher = Cipher.open(data_dir)
        self.database = Database(f"sqlite:///{data_dir / 'understudy.db'}")
        self.database.upgrade(self.cipher)
        self.settings = Settings(data_dir=data_dir, encoder="")
        artifacts = ArtifactStore(self.settings.artifacts_dir, self.cipher)
        artifacts.put("snapshot", snapshot.dump(), {}, artifact_id=snapshot.snapshot_id)
        self.snapshot_id = snapshot.snapshot_id
        self.cluster_id = next(one.cluster_id for one in snapshot.clusters.values() if "triage desk" in one.skeleton)
        self.promotion = PromotionRow(
            promotion_id=1, cluster_id=self.cluster_id, created_at=datetime.now(UTC) - timedelta(hours=1)
        )
        self.drift = PayloadDrift(self.cipher, artifacts)
        self.drift.use(self.snapshot_id)
        self._number = 0

    def send(self, count: int, text: Callable[[int], str] = triage_text) -> None:
        records = []
        for _ in range(count):
            self._number += 1
            said = [("system", TRIAGE), ("user", text(self._number))]
            body = {"model": "m", "messages": [{"role": role, "content": words} for role, words in said]}
            at = time.time_ns() - 50 * 10**9 + self._number * 10**6
            records.append(make_record(orjson.dumps(body), cluster_id=self.cluster_id, arrived_at_ns=at))
        with self.database.write() as session:
            insert_calls(session, self.cipher, [(record, CallFacts()) for record in records])

    def look(self, kept: Kept) -> Kept:
        """As often as there is something new; what is known is kept as JSON in between."""
        with self.database.read() as session:
            while (found := self.drift.look(session, self.promotion, kept)) is not None:
                kept = orjson.loads(orjson.dumps(found))
        return kept


@pytest.fixture
def traffic(snapshot_with_payloads: Snapshot, tmp_path: Path) -> Iterator[Traffic]:  # noqa: F811
    learned_before = replace(snapshot_with_payloads, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    traffic = Traffic(learned_before, tmp_path)
    yield traffic
    traffic.database.close()


def state(kept: Kept) -> Drift:
    assert kept is not None
    return Drift.from_json(kept["drift"])


def test_the_first_conversations_set_the_limit_and_more_of_the_same_is_no_drift(traffic: Traffic) -> None:
    traffic.send(BASELINE_CONVERSATIONS - 1)
    kept = traffic.look(None)
    assert kept is not None
    assert kept["drift"] is None
    traffic.send(101)
    kept = traffic.look(kept)
    assert (state(kept).n, state(kept).alarm) == (100, None)


def test_other_payloads_are_noticed(traffic: Traffic) -> None:
    traffic.send(BASELINE_CONVERSATIONS)
    kept = traffic.look(None)
    traffic.send(40, alien_text)
    assert state(traffic.look(kept)).alarm is not None


def test_each_call_counts_once_and_nothing_new_is_nothing(traffic: Traffic) -> None:
    traffic.send(BASELINE_CONVERSATIONS + 10)
    kept = traffic.look(None)
    assert traffic.look(kept) == kept
    with traffic.database.read() as session:
        assert traffic.drift.look(session, traffic.promotion, kept) is None


def test_a_new_snapshot_measures_anew_and_one_that_is_lost_measures_nothing(traffic: Traffic) -> None:
    traffic.send(BASELINE_CONVERSATIONS + 10)
    kept = traffic.look(None)
    assert kept is not None
    again = traffic.look(kept | {"snapshot": "an-earlier-one"})
    assert state(again).n == state(kept).n
    traffic.drift.use("lost")
    assert traffic.look(None) is None


def test_a_promotion_whose_payloads_drift_ends(traffic: Traffic) -> None:
    cluster = StoredCluster(traffic.cluster_id, traffic.snapshot_id, "triage", {"kind": "text"}, "", 1, 1, [])
    row = PromotionRow(
        cluster_id=traffic.cluster_id, model="tiny", stage="live", share=1.0, slm="gpu", forced=True, actor="anna",
        created_at=datetime.now(UTC) - timedelta(hours=1),
    )  # fmt: skip
    with traffic.database.write() as session:
        activate_snapshot(session, traffic.cipher, traffic.snapshot_id, 1, [cluster])
        promote(session, row)
    watch = Watch(traffic.settings, traffic.database, traffic.cipher)

    def look() -> bool:
        watch._keep_at = 0.0
        watch.look()
        with traffic.database.read() as session:
            return not current_promotions(session)

    traffic.send(BASELINE_CONVERSATIONS)
    assert not any(look() for _ in range(6))
    traffic.send(40, alien_text)
    assert any(look() for _ in range(3))
    with traffic.database.read() as session:
        move = list_moves(session, traffic.cluster_id)[0]
    assert (move.cause, move.actor, move.figures["alarm"]) == ("drift", "watch", "drifted")

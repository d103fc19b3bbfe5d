"""Which snapshot, which promotions and which keys are in force, kept fresh in every worker.

The database says so; each worker asks it once a second, in a thread of its own, and swaps its immutable `Router` whole.
What was in force last is kept in the data directory (`serving.json`), so that a worker starts, and serves tasks from
their SLMs, while the database is dead.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from proxy.errors import ServiceUnavailable, Unauthorized
from proxy.keys import Key, Keys, key_hash, keys_of
from proxy.logs import OncePerMinute
from proxy.metrics import Metrics
from proxy.promotion.moves import in_force
from router.encoder import TransformerEncoder
from router.engine import Router
from router.promotion import Promotion
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.database import Database
from storage.errors import ArtifactCorrupt, ArtifactMissing, DatabaseDown, StorageError
from storage.privacy import FILE_MODE
from storage.repositories.clusters import earlier_snapshots
from storage.repositories.keys import keys_in_force
from storage.repositories.state import active_snapshot_id, serving_version

POLL_SECONDS = 1.0
# A snapshot that can't be loaded is tried again: the artifact store may be a slow share.
RETRY_SECONDS = 30.0

log = structlog.get_logger()


class InForce(msgspec.Struct, frozen=True):
    """What the database says, as it is kept in `serving.json`.

    Attributes:
        version: grows with every change.
        snapshot_id: None before anything was learned.
        promotions: by cluster id.
        earlier: ids of the snapshots that were in force before, the last of them first.
        keys: by their hash, hexadecimal.
    """

    version: int = -1
    snapshot_id: str | None = None
    promotions: dict[str, Promotion] = msgspec.field(default_factory=dict)
    earlier: list[str] = msgspec.field(default_factory=list)
    keys: dict[str, Key] = msgspec.field(default_factory=dict)


class Serving:
    """Holds the current router. Reading `router` is free; it may be another object the next time."""

    def __init__(
        self, cache: Path, database: Database, artifacts: ArtifactStore, metrics: Metrics, encoder: str = ""
    ) -> None:
        """Begin with what is in the cache, or with nothing.

        Args:
            cache: `serving.json`.
            database: asked by `refresh`, never here.
            artifacts: where snapshots are.
            metrics: gets the clusters and stages in force.
            encoder: sentence-transformers model for payloads that the static encoder is unsure of; loaded beside
                serving once a task in force may need it. Until then such payloads are the LLM's.
        """
        self._cache = cache
        self._database = database
        self._artifacts = artifacts
        self._metrics = metrics
        self._encoder = TransformerEncoder(encoder) if encoder else None
        self._loaded_encoder: TransformerEncoder | None = None
        self._loader: threading.Thread | None = None
        self._log_now = OncePerMinute()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._retry_at = 0.0
        self._in_force = InForce()
        self._snapshot: Snapshot | None = None
        self.router = Router(None, {})
        self._apply(self._read_cache())

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that the router serves from."""
        return self._snapshot

    @property
    def promotions(self) -> Mapping[str, Promotion]:
        """What is promoted, by cluster id."""
        return self._in_force.promotions

    @property
    def keys(self) -> Keys:
        """The proxy's own keys in force, by their hash."""
        return self._in_force.keys

    def key(self, token: str) -> Key:
        """The key in force that a token is.

        Raises:
            Unauthorized: it is none.
            ServiceUnavailable: nobody knows yet: the database was dead since the first start.
        """
        found = self._in_force.keys.get(key_hash(token))
        if found is not None:
            return found
        if self._in_force.version < 0:
            raise ServiceUnavailable("keys can't be checked before the database has answered for the first time")
        raise Unauthorized("this key of the proxy's own is not in force: it was revoked, or never made")

    def start(self) -> None:
        """Keep fresh until `stop`, in a thread of its own."""
        threading.Thread(target=self._poll, name="serving-poll", daemon=True).start()

    def stop(self) -> None:
        """End the thread; it may still be in its last question."""
        self._stopped.set()

    def refresh(self) -> None:
        """Ask the database and swap the router if something changed. Blocks: not for the event loop.

        Raises:
            DatabaseDown: nothing was changed.
        """
        with self._lock:
            with self._database.read() as session:
                version = serving_version(session)
                if version == self._in_force.version and (self._is_whole() or time.monotonic() < self._retry_at):
                    return
                active = active_snapshot_id(session)
                earlier = earlier_snapshots(session, active) if active else []
                known = keys_of(keys_in_force(session))
                newest = InForce(version, active, in_force(session), earlier, known)
            self._warn_of_loss(newest)
            self._apply(newest)
            self._write_cache(newest)

    def _warn_of_loss(self, newest: InForce) -> None:
        """Versions only grow: one that is lower is of another database, which knows nothing of what was in force."""
        before = self._in_force
        if newest.version < before.version and (before.snapshot_id or before.promotions):
            log.warning(
                "serving.state_lost",
                why="the database was deleted or replaced; the LLM serves what the new one does not know",
                snapshot=before.snapshot_id,
                promotions=sorted(before.promotions),
            )

    def _poll(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self.refresh()
            except DatabaseDown as error:
                if self._log_now("database"):
                    log.warning("serving.not_refreshed", error=str(error))
            except Exception:
                if self._log_now("unexpected"):
                    log.exception("serving.not_refreshed")

    def _is_whole(self) -> bool:
        """Whether the snapshot in force is the one that should be."""
        return (self._snapshot.snapshot_id if self._snapshot else None) == self._in_force.snapshot_id

    def _apply(self, newest: InForce) -> None:
        """Build a router of what is in force; a snapshot that can't be loaded leaves the old one in its place."""
        self._in_force = newest
        if not self._is_whole():
            self._snapshot = self._load_newest(newest.snapshot_id, newest.earlier) if newest.snapshot_id else None
        if self._snapshot is not None:
            self._metrics.know_clusters(self._snapshot.clusters)
        self._metrics.show_promotions(newest.promotions)
        self.router = Router(self._snapshot, newest.promotions, self._loaded_encoder)
        if self._encoder is not None and self._loader is None and self._may_need_encoder():
            self._loader = threading.Thread(target=self._load_encoder, args=[self._encoder], daemon=True)
            self._loader.start()

    def _may_need_encoder(self) -> bool:
        """Whether a promoted task's payloads are judged by the transformer where the static encoder is unsure."""
        if self._snapshot is None:
            return False
        tasks = (self._snapshot.task_of.get(cluster_id) for cluster_id in self._in_force.promotions)
        models = (self._snapshot.payloads.get(task) for task in tasks if task is not None)
        return any(model is not None and model.full is not None for model in models)

    def _load_encoder(self, encoder: TransformerEncoder) -> None:
        """Seconds and a few hundred MB, which no call waits for."""
        try:
            encoder.load()
        except Exception as error:  # noqa: BLE001 - what a model's files can raise has no end; the LLM serves on
            log.error("encoder.not_loaded", encoder=encoder.source, error=repr(error))
            return
        with self._lock:
            self._loaded_encoder = encoder
            self.router = Router(self._snapshot, self._in_force.promotions, encoder)

    def _load_newest(self, active: str, earlier: Iterable[str]) -> Snapshot | None:
        """The active snapshot; else what is there already; else, in a worker that has just started, an earlier one."""
        snapshot = self._load(active) or self._snapshot
        if snapshot is None:
            snapshot = next(filter(None, map(self._load, earlier)), None)
            if snapshot is not None:
                log.warning("snapshot.fell_back", snapshot=active, to=snapshot.snapshot_id)
        return snapshot

    def _load(self, snapshot_id: str) -> Snapshot | None:
        try:
            snapshot = Snapshot.load(self._artifacts.open(snapshot_id).files)
        except (ArtifactCorrupt, ArtifactMissing) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            log.error("snapshot.not_loaded", snapshot=snapshot_id, reason=error.reason, error=str(error))
            return None
        except (StorageError, ValueError, KeyError, TypeError) as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            log.error("snapshot.not_loaded", snapshot=snapshot_id, reason="unreadable", error=repr(error))
            return None
        log.info("snapshot.activated", snapshot=snapshot_id, clusters=len(snapshot.clusters))
        return snapshot

    def _read_cache(self) -> InForce:
        try:
            return msgspec.json.decode(self._cache.read_bytes(), type=InForce)
        except FileNotFoundError:
            return InForce()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("serving.cache_unreadable", path=str(self._cache), error=str(error))
            return InForce()

    def _write_cache(self, newest: InForce) -> None:
        """Replace the file whole; every worker writes the same, so the last one wins harmlessly."""
        draft = self._cache.with_name(f"{self._cache.name}.{os.getpid()}")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
                file.write(msgspec.json.encode(newest))
            draft.replace(self._cache)
        except OSError as error:
            if self._log_now("cache"):
                log.warning("serving.cache_not_written", path=str(self._cache), error=str(error))

"""Loading a promoted adapter again into a server that was restarted without it. In threads; never on a call's path."""

from __future__ import annotations

import threading
import time

import structlog

from proxy.errors import UnderstudyError
from proxy.settings import Settings
from proxy.slm.kept_adapters import restore_adapter
from proxy.slm.vllm import VllmServer
from router.promotion import Promotion
from storage.artifacts import ArtifactStore
from storage.database import Database
from storage.errors import DatabaseDown
from storage.models import ModelRow
from storage.repositories.registry import get_model

log = structlog.get_logger()

PAUSE_SECONDS = 5.0


class Reloader:
    """Called with a promotion whose model its server does not know; tries once every few seconds a model."""

    def __init__(self, settings: Settings, database: Database, artifacts: ArtifactStore) -> None:
        """
        Args:
            database, artifacts: what a trained adapter is restored from, where its files are gone.
        """
        self._settings, self._database, self._artifacts = settings, database, artifacts
        self._tried: dict[tuple[str, str], float] = {}

    def __call__(self, promotion: Promotion) -> None:
        """Start loading, unless that was done just now."""
        key = (promotion.slm, promotion.model)
        if time.monotonic() - self._tried.get(key, -PAUSE_SECONDS) < PAUSE_SECONDS:
            return
        self._tried[key] = time.monotonic()
        threading.Thread(target=self._load, args=(promotion,), name="adapter-reload", daemon=True).start()

    def _load(self, promotion: Promotion) -> None:
        server = VllmServer(promotion.slm, self._settings.slm_url[promotion.slm], self._settings.slm_api_key)
        try:
            restore_adapter(self._settings, self._artifacts, self._registered(promotion.model), promotion.adapter)
            server.ensure_served(promotion.model, promotion.adapter)
            log.info("adapter.reloaded", slm=promotion.slm, model=promotion.model)
        except UnderstudyError as error:
            log.warning("adapter.not_reloaded", slm=promotion.slm, model=promotion.model, error=str(error))

    def _registered(self, model: str) -> ModelRow | None:
        """What is known of a model; nothing while the database is away, and the server may find its files whole."""
        try:
            with self._database.read() as session:
                return get_model(session, model)
        except DatabaseDown:
            return None

"""Loading a promoted adapter again into a server that was restarted without it. In threads; never on a call's path."""

from __future__ import annotations

import threading
import time

import structlog

from proxy.errors import UnderstudyError
from proxy.settings import Settings
from proxy.slm.vllm import VllmServer
from router.promotion import Promotion

log = structlog.get_logger()

PAUSE_SECONDS = 5.0


class Reloader:
    """Called with a promotion whose model its server does not know; tries once every few seconds a model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
            server.ensure_served(promotion.model, promotion.adapter)
            log.info("adapter.reloaded", slm=promotion.slm, model=promotion.model)
        except UnderstudyError as error:
            log.warning("adapter.not_reloaded", slm=promotion.slm, model=promotion.model, error=str(error))

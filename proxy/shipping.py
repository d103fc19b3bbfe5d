"""The shipper process: from the workers' segments to the database and the metrics; money as it goes; the clean-up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence

import structlog

from proxy import savings
from proxy.ledger import Ledger, add_up
from proxy.metrics import Metrics
from proxy.pricing import LlmPrices, SlmPrices
from proxy.settings import Settings
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.records import CallFacts, CallRecord
from storage.repositories import retention
from storage.repositories.promotions import first_promoted_at
from storage.shipper import Shipper

log = structlog.get_logger()

PURGE_EVERY_SECONDS = 3600.0
GPU_EVERY_SECONDS = 10.0


def ledger_for(settings: Settings) -> Ledger:
    """The ledger with the prices that the settings know."""
    return Ledger(
        LlmPrices(settings.upstream_url),
        SlmPrices(settings.slm_input_usd_per_million_tokens / 1e6, settings.slm_output_usd_per_million_tokens / 1e6),
    )


class Account:
    """Keeps the money metrics: counters since the start, and the net savings over the whole log."""

    def __init__(self, metrics: Metrics, database: Database, settings: Settings) -> None:
        self._metrics = metrics
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._net_usd: float | None = None  # unknown until the database has answered
        self._settle(0.0)

    def add(self, calls: Sequence[tuple[CallRecord, CallFacts]]) -> None:
        """Take in calls that the database has just taken."""
        with self._lock:
            saved = add_up(self._metrics, calls)
            self._settle(saved)

    def pass_time(self, seconds: float) -> None:
        """Charge for the SLM servers' GPUs, busy or idle, from the first promotion on."""
        with self._lock:
            usd = savings.gpu_usd_per_second(self._settings) * seconds if self._has_begun() else 0.0
            if usd:
                self._metrics.add_cost("slm", usd)
            self._settle(-usd)

    def _settle(self, change_usd: float) -> None:
        """Show the new net savings. The first time the database tells them, the change included."""
        if self._net_usd is not None:
            self._net_usd += change_usd
        else:
            try:
                with self._database.read() as session:
                    self._net_usd = savings.net(session, self._settings)
            except DatabaseDown:
                return  # asked again with the next change
        self._metrics.show_savings(self._net_usd)

    def _has_begun(self) -> bool:
        if not self._settings.slm_gpu_usd_per_hour:
            return False
        try:
            with self._database.read() as session:
                return first_promoted_at(session) is not None
        except DatabaseDown:
            return False


def run_shipper(settings: Settings) -> None:
    """Ship until SIGTERM, then once more."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    database = Database(settings.database)
    metrics = Metrics()
    account = Account(metrics, database, settings)
    shipper = Shipper(
        settings.spool_dir,
        database,
        Cipher.open(settings.data_dir),
        read_facts=ledger_for(settings).read_facts,
        on_shipped=account.add,
        on_set_aside=metrics.count_quarantined_calls,
    )
    threading.Thread(target=_keep_house, args=(settings, database, account, stop), name="house", daemon=True).start()
    shipper.run(stop)


def _keep_house(settings: Settings, database: Database, account: Account, stop: threading.Event) -> None:
    """What time brings: the GPUs' rent, and calls that are too old to be kept."""
    charged_at = time.monotonic()
    purge_at = charged_at + PURGE_EVERY_SECONDS
    while not stop.wait(GPU_EVERY_SECONDS):
        now = time.monotonic()
        account.pass_time(now - charged_at)
        charged_at = now
        if now >= purge_at:
            purge_at = now + PURGE_EVERY_SECONDS
            try:
                while purge_once(database, settings.retention_days) and not stop.wait(0.1):
                    pass
            except DatabaseDown as error:
                log.warning("purge.failed", error=str(error))


def purge_once(database: Database, days: int, limit: int = 5000) -> bool:
    """Delete one batch of old calls, or of what only they said; says whether there may be more.

    Raises:
        DatabaseDown
    """
    with database.write() as session:
        if retention.delete_older_than(session, days, limit) == limit:
            return True
    with database.write() as session:
        return retention.delete_unused_pieces(session, days, limit)

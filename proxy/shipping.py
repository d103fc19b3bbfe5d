"""The shipper process: from the workers' segments to the database and the metrics; and the daily clean-up."""

from __future__ import annotations

import signal
import threading
import time

import structlog

from proxy.ledger import Ledger
from proxy.metrics import Metrics
from proxy.pricing import LlmPrices, SlmPrices
from proxy.settings import Settings
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.records import CallFacts, CallRecord
from storage.repositories.calls import delete_older_than
from storage.shipper import Shipper

log = structlog.get_logger()

PURGE_EVERY_SECONDS = 3600.0


def ledger_for(settings: Settings) -> Ledger:
    """The ledger with the prices that the settings know."""
    return Ledger(
        LlmPrices(settings.upstream_url),
        SlmPrices(
            settings.slm_input_usd_per_million_tokens / 1e6,
            settings.slm_output_usd_per_million_tokens / 1e6,
            settings.slm_gpu_usd_per_hour,
        ),
    )


def make_shipper(settings: Settings, metrics: Metrics | None = None) -> Shipper:
    """A shipper for the data directory of the settings.

    Raises:
        KeyFileUnusable
    """
    ledger = ledger_for(settings)

    def add_up(calls: list[tuple[CallRecord, CallFacts]]) -> None:
        if metrics is not None:
            ledger.add_up(metrics, calls)

    return Shipper(
        settings.spool_dir,
        Database(settings.database),
        Cipher.open(settings.data_dir),
        read_facts=ledger.read_facts,
        on_shipped=add_up,  # type: ignore[arg-type]
    )


def run_shipper(settings: Settings) -> None:
    """Ship until SIGTERM, then once more."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_purge, args=(settings, stop), name="purge", daemon=True).start()
    make_shipper(settings, Metrics()).run(stop)


def _purge(settings: Settings, stop: threading.Event) -> None:
    """Delete what is older than the retention allows, a bounded number at a time."""
    database = Database(settings.database)
    while not stop.wait(PURGE_EVERY_SECONDS):
        try:
            while purge_once(database, settings.retention_days):
                time.sleep(0.1)
        except DatabaseDown as error:
            log.warning("purge.failed", error=str(error))


def purge_once(database: Database, days: int, limit: int = 5000) -> bool:
    """Delete one batch of old calls; says whether there may be more.

    Raises:
        DatabaseDown
    """
    with database.write() as session:
        return delete_older_than(session, days, limit) == limit

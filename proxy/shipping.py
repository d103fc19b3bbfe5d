"""The shipper process: from the workers' segments to the database and the metrics; money as it goes; the clean-up."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from proxy.metrics import Metrics
from proxy.money import savings
from proxy.money.key_names import KeyNames
from proxy.money.ledger import Ledger, add_up, add_up_copies
from proxy.money.pricing import LlmPrices, SlmPrices
from proxy.money.savings import Parts
from proxy.money.tokenisation import LoggedTokenisation
from proxy.money.tokens import TokenCounter
from proxy.settings import Settings
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.repositories import retention
from storage.repositories.promotions import current_promotions, first_promoted_at
from storage.shipper import Shipped, ShippedCopies, Shipper

if TYPE_CHECKING:
    from proxy.traces import CallTraces

log = structlog.get_logger()

PURGE_EVERY_SECONDS = 3600.0
GPU_EVERY_SECONDS = 10.0


def ledger_for(settings: Settings, database: Database, cipher: Cipher) -> Ledger:
    """The ledger with the prices that the settings know, and the tokenisations that the log shows."""
    counter = TokenCounter()
    return Ledger(
        LlmPrices(settings.upstream_url),
        SlmPrices(settings.slm_input_usd_per_million_tokens / 1e6, settings.slm_output_usd_per_million_tokens / 1e6),
        counter,
        LoggedTokenisation(database, cipher, counter),
    )


class Account:
    """Keeps the money metrics: counters since the start, and the net savings over the whole log, part by part."""

    def __init__(self, metrics: Metrics, database: Database, settings: Settings) -> None:
        self._metrics = metrics
        self._database = database
        self._settings = settings
        self._keys = KeyNames(database)
        self._lock = threading.Lock()
        self._parts: Parts | None = None  # unknown until the database has answered
        self._settle(Parts())

    def add(self, calls: Shipped) -> None:
        """Take in calls that the database has just taken."""
        with self._lock:
            self._keys.look_up(record.origin for record, _ in calls)
            self._settle(add_up(self._metrics, calls, self._keys.of))

    def add_copies(self, copies: ShippedCopies) -> None:
        """Take in copies that the database has just taken."""
        with self._lock:
            self._settle(add_up_copies(self._metrics, copies))

    def pass_time(self, seconds: float) -> None:
        """Charge for the SLM servers' GPUs, busy or idle, from the first promotion on; see what training cost."""
        with self._lock:
            usd = savings.gpu_usd_per_second(self._settings) * seconds if self._has_begun() else 0.0
            if usd:
                self._metrics.add_cost("slm", usd)
            self._settle(Parts(gpu_usd=usd))
            self._look_up_training()

    def _look_up_training(self) -> None:
        if self._parts is None:
            return
        try:
            with self._database.read() as session:
                spent_usd = savings.training_usd(session, self._settings)
        except DatabaseDown:
            return
        self._parts = replace(self._parts, training_usd=spent_usd)
        self._metrics.show_savings(self._parts)

    def _settle(self, change: Parts) -> None:
        """Show the new net savings. The first time the database tells them, the change included."""
        if self._parts is not None:
            self._parts += change
        else:
            try:
                with self._database.read() as session:
                    self._parts = savings.statement(session, self._settings).whole
            except DatabaseDown:
                return  # asked again with the next change
        self._metrics.show_savings(self._parts)

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
    cipher = Cipher.open(settings.data_dir)
    account = Account(metrics, database, settings)
    ledger = ledger_for(settings, database, cipher)
    traces = _traces(settings.otel_endpoint)
    shipper = Shipper(
        settings.spool_dir,
        database,
        cipher,
        read_facts=ledger.read_facts,
        on_shipped=lambda calls: _tell(calls, account, traces),
        read_copy=ledger.read_copy,
        on_copies_shipped=account.add_copies,
        on_set_aside=metrics.count_quarantined_calls,
    )
    house = (settings, database, account, metrics, stop)
    threading.Thread(target=_keep_house, args=house, name="house", daemon=True).start()
    shipper.run(stop)
    if traces is not None:
        traces.close()


def _tell(calls: Shipped, account: Account, traces: CallTraces | None) -> None:
    account.add(calls)
    if traces is not None:
        traces.show(calls)


def _traces(endpoint: str | None) -> CallTraces | None:
    """Where spans go; None where nobody wants them, or nothing is there to make them."""
    if endpoint is None:
        return None
    try:
        from proxy.traces import OtlpTraces
    except ImportError as error:
        log.error("traces.not_exported", missing=error.name, what_to_do="pip install 'understudy[otel]'")
        return None
    return OtlpTraces(endpoint)


def _keep_house(
    settings: Settings, database: Database, account: Account, metrics: Metrics, stop: threading.Event
) -> None:
    """What time brings: the GPUs' rent, what learners have found out, and calls that are too old to be kept."""
    charged_at = time.monotonic()
    purge_at = charged_at + PURGE_EVERY_SECONDS
    while not stop.wait(GPU_EVERY_SECONDS):
        now = time.monotonic()
        account.pass_time(now - charged_at)
        charged_at = now
        show_disagreement(metrics, database, settings)
        if now >= purge_at:
            purge_at = now + PURGE_EVERY_SECONDS
            try:
                while purge_once(database, settings.retention_days) and not stop.wait(0.1):
                    pass
            except DatabaseDown as error:
                log.warning("purge.failed", error=str(error))


def show_disagreement(metrics: Metrics, database: Database, settings: Settings) -> None:
    """Show how often the SLMs in force disagree. It stands in the database: whoever judges may be on any machine."""
    try:
        with database.read() as session:
            if current_promotions(session):
                from proxy.watch.shown import disagreements  # numpy and scipy, needed only where something is promoted

                metrics.show_disagreement(disagreements(session, settings))
            else:
                metrics.show_disagreement({})
    except DatabaseDown:
        pass  # what was known last stays on show
    except Exception:
        log.exception("disagreement.not_shown")  # rent and clean-up, which come after it, go on


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

"""What the LLM costs when it judges: written down, and bounded together with the copies."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from proxy.money.copy_budget import LOOK_SECONDS, spent_today_usd
from storage.database import Database
from storage.errors import DatabaseDown
from storage.repositories.costs import JUDGE, add_cost


class JudgeBudget:
    """One process's view of what is left of a day's budget; for any number of threads.

    The own cost counts at once, that of other processes within 5 s. As for copies, what nobody knows the price of
    counts for nothing, and nothing is left while the database is away.
    """

    def __init__(self, database: Database, usd_per_day: float, cluster_id: str | None = None) -> None:
        """
        Args:
            cluster_id: the task that all of it is for; None for several.
        """
        self._database = database
        self._usd_per_day = usd_per_day
        self._cluster_id = cluster_id
        self._lock = threading.Lock()
        self._known_usd: float | None = None
        self._new_usd = 0.0
        self._new_requests = 0
        self._look_at = 0.0

    def is_left(self) -> bool:
        """Whether the judge may be asked once more today (UTC)."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._known_usd = self._settled_and_known()
                self._look_at = time.monotonic() + LOOK_SECONDS
            return self._known_usd is not None and self._known_usd + self._new_usd < self._usd_per_day

    def spend(self, usd: float | None) -> None:
        """Take in what a request cost, None where nobody knows."""
        with self._lock:
            self._new_usd += usd or 0.0
            self._new_requests += 1

    def settle(self) -> None:
        """Write down what was spent; a database that is away gets it the next time."""
        with self._lock:
            self._known_usd = self._settled_and_known()

    def _settled_and_known(self) -> float | None:
        try:
            if self._new_requests:
                with self._database.write() as session:
                    figures = {"requests": self._new_requests}
                    add_cost(session, JUDGE, self._cluster_id, self._new_usd, figures)
                self._new_usd, self._new_requests = 0.0, 0
            with self._database.read() as session:
                return spent_today_usd(session, datetime.now(UTC))
        except DatabaseDown:
            return None

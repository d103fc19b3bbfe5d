"""What copies, and judging them, may cost in a day, over all workers and machines: the database knows what they cost.

Each worker asks it every few seconds while it makes copies, so a day's cost may go over by what all workers copy in
the seconds until the shipper has priced the last copies and they have asked again: about ten. Costs that nobody knows
count for nothing. While the database is away nobody knows how much is left, and no copies are made.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from storage.database import Database, ReadSession
from storage.errors import DatabaseDown
from storage.repositories.copies import known_cost_usd
from storage.repositories.costs import JUDGE, cost_totals

LOOK_SECONDS = 5.0


class CopyBudget:
    """One worker's view of it."""

    def __init__(self, database: Database, usd_per_day: float) -> None:
        self._database = database
        self._usd_per_day = usd_per_day
        self._spent_usd: float | None = None
        self._look_at = 0.0
        self._looking = asyncio.Lock()

    async def is_left(self) -> bool:
        """Whether another copy may be made today (UTC)."""
        if not self._usd_per_day:
            return False
        async with self._looking:
            if time.monotonic() >= self._look_at:
                self._spent_usd = await asyncio.to_thread(self._look)
                self._look_at = time.monotonic() + LOOK_SECONDS
        return self._spent_usd is not None and self._spent_usd < self._usd_per_day

    def _look(self) -> float | None:
        try:
            with self._database.read() as session:
                return spent_today_usd(session, datetime.now(UTC))
        except DatabaseDown:
            return None


def spent_today_usd(session: ReadSession, now: datetime) -> float:
    """What copies, and the LLM as their judge, are known to have cost since midnight (UTC)."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    judged = sum(total.usd for total in cost_totals(session, midnight) if total.kind == JUDGE)
    return known_cost_usd(session, midnight) + judged

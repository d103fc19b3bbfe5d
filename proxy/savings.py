"""What the SLMs have saved, net of what they cost: one account for the admin API and for the metric.

    savings = counterfactual − SLM cost − wasted SLM answers − the SLM servers' GPU time

The GPU is paid for whether it is busy or idle, from the first promotion on, so it belongs to no single call.
"""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.settings import Settings
from storage.database import ReadSession
from storage.repositories.calls import Totals, totals
from storage.repositories.promotions import first_promoted_at

SECONDS_PER_HOUR = 3600.0


def of_calls(total: Totals) -> float:
    """US dollars that a group of calls saved; below zero where SLMs cost more than the LLM would have."""
    return total.counterfactual_usd - total.slm_cost_usd - total.wasted_usd


def gpu_usd_per_second(settings: Settings) -> float:
    """What all SLM servers cost while they are up."""
    return len(settings.slm_url) * settings.slm_gpu_usd_per_hour / SECONDS_PER_HOUR


def of_gpu(
    session: ReadSession, settings: Settings, since: datetime | None = None, until: datetime | None = None
) -> float:
    """US dollars for the SLM servers' time in a window, from the first promotion at the earliest until now."""
    first = first_promoted_at(session)
    if first is None:
        return 0.0
    begin = first if since is None else max(first, _aware(since))
    now = datetime.now(UTC)
    end = now if until is None else min(now, _aware(until))
    return max((end - begin).total_seconds(), 0.0) * gpu_usd_per_second(settings)


def net(session: ReadSession, settings: Settings) -> float:
    """US dollars saved over the whole log."""
    return sum(of_calls(total) for total in totals(session)) - of_gpu(session, settings)


def _aware(moment: datetime) -> datetime:
    """A moment without a zone is meant in UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

"""What the SLMs have saved, net of what they cost: one account for the admin API, the console and the metrics.

    savings = counterfactual − SLM cost − GPU − shadow − audit − wasted − training

An SLM server's GPU is paid for whether it is busy or idle, from the first promotion on. What it costs belongs to those
who kept it busy, by their share of the time (`occupancy`); what nobody used is a line of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from proxy.settings import Settings
from storage.database import ReadSession
from storage.repositories.calls import Totals, slm_busy_ms, totals
from storage.repositories.copies import SHADOW, copy_totals, shadow_busy_ms
from storage.repositories.costs import cost_totals
from storage.repositories.promotions import first_promoted_at

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What savings consist of, in US dollars.

    Attributes:
        counterfactual_usd: what the LLM would have cost for the calls that SLMs served; all others are costs.
        slm_usd: by token, for served answers.
        gpu_usd: the SLM servers' time.
        shadow_usd, audit_usd: copies.
        wasted_usd: SLM answers that were not served.
        training_usd: training, evaluation, and whatever else was spent on no call.
    """

    counterfactual_usd: float = 0.0
    slm_usd: float = 0.0
    gpu_usd: float = 0.0
    shadow_usd: float = 0.0
    audit_usd: float = 0.0
    wasted_usd: float = 0.0
    training_usd: float = 0.0

    @property
    def net_usd(self) -> float:
        """Below zero where SLMs cost more than the LLM would have."""
        costs = self.slm_usd + self.gpu_usd + self.shadow_usd + self.audit_usd + self.wasted_usd + self.training_usd
        return self.counterfactual_usd - costs

    def __add__(self, other: Parts) -> Parts:
        return Parts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Parts)))


@dataclass(frozen=True, slots=True)
class Statement:
    """The account of a window.

    Attributes:
        groups: the calls' sums, largest first.
        parts: by the key of a group, and of those that have costs and no calls.
        rest: what belongs to none of them: the GPUs' idle time, and training that is not theirs.
    """

    groups: list[Totals]
    parts: dict[str | None, Parts]
    rest: Parts

    @property
    def whole(self) -> Parts:
        """All of it."""
        return sum(self.parts.values(), self.rest)


def statement(
    session: ReadSession,
    settings: Settings,
    by: str = "cluster",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Statement:
    """Draw up the account by `cluster`, `model`, `agent` or `day`. Training is a cluster's; else it is in the rest."""
    groups = totals(session, by, since, until)
    parts: defaultdict[str | None, Parts] = defaultdict(Parts)
    for total in groups:
        parts[total.key] += of_calls(total)
    for copied in copy_totals(session, by, since, until):
        usd = copied.cost_usd
        parts[copied.key] += Parts(shadow_usd=usd) if copied.kind == SHADOW else Parts(audit_usd=usd)
    rest = Parts()
    for spent in cost_totals(session, _since(settings, since), until):
        if by == "cluster" and spent.cluster_id is not None:
            parts[spent.cluster_id] += Parts(training_usd=spent.usd)
        else:
            rest += Parts(training_usd=spent.usd)
    busy: defaultdict[tuple[str | None, str], float] = defaultdict(float)
    for measured in (slm_busy_ms(session, by, since, until), shadow_busy_ms(session, by, since, until)):
        for place, busy_ms in measured.items():
            busy[place] += busy_ms / 1000
    used, idle_usd = occupancy(settings, rented_seconds(session, settings, since, until), busy)
    for key, usd in used.items():
        parts[key] += Parts(gpu_usd=usd)
    return Statement(groups, dict(parts), rest + Parts(gpu_usd=idle_usd))


def occupancy(
    settings: Settings, seconds: float, busy: Mapping[tuple[str | None, str], float]
) -> tuple[dict[str | None, float], float]:
    """Share the GPUs' rent among those who used them.

    Args:
        seconds: for which every server was rented.
        busy: seconds by (who, server). A server that works on several answers at once is busy with each for a part of
            the time: where they add up to more than there was, all count for less.

    Returns:
        (US dollars by who, US dollars for the time that nobody used)
    """
    used: defaultdict[str | None, float] = defaultdict(float)
    idle_usd = 0.0
    usd_per_second = settings.slm_gpu_usd_per_hour / SECONDS_PER_HOUR
    for name in settings.slm_url:
        own = {key: spent for (key, slm), spent in busy.items() if slm == name}
        in_all = sum(own.values())
        scale = min(1.0, seconds / in_all) if in_all else 0.0
        for key, spent in own.items():
            used[key] += spent * scale * usd_per_second
        idle_usd += (seconds - in_all * scale) * usd_per_second
    return dict(used), idle_usd


def of_calls(total: Totals) -> Parts:
    """What a group of calls saved, but for what their copies and the GPU cost."""
    return Parts(counterfactual_usd=total.counterfactual_usd, slm_usd=total.slm_cost_usd, wasted_usd=total.wasted_usd)


def gpu_usd_per_second(settings: Settings) -> float:
    """What all SLM servers cost while they are up."""
    return len(settings.slm_url) * settings.slm_gpu_usd_per_hour / SECONDS_PER_HOUR


def rented_seconds(
    session: ReadSession, settings: Settings, since: datetime | None = None, until: datetime | None = None
) -> float:
    """For how long the SLM servers were paid for in a window, from the first promotion at the earliest until now."""
    first = first_promoted_at(session)
    if first is None:
        return 0.0
    now = datetime.now(UTC)
    end = now if until is None else min(now, _aware(until))
    return max((end - max(first, _since(settings, since))).total_seconds(), 0.0)


def training_usd(session: ReadSession, settings: Settings) -> float:
    """What was spent on no call, as far back as the log goes."""
    return sum(spent.usd for spent in cost_totals(session, _since(settings, None)))


def _since(settings: Settings, since: datetime | None) -> datetime:
    """Where a window begins: no earlier than the log, so that no cost is older than what it saved."""
    log_begins = datetime.now(UTC) - timedelta(days=settings.retention_days)
    return log_begins if since is None else max(_aware(since), log_begins)


def _aware(moment: datetime) -> datetime:
    """A moment without a zone is meant in UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

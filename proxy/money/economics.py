"""Whether training an SLM for a task pays: its break-even volume, and what that is reckoned from.

Served by an SLM, a call saves what the LLM would have cost, less what the SLM charges, less the LLM's price for the
share that is audited. That has to bring back, month by month, the SLM server's rent (shared by the tasks that are
promoted there), and within the first month the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.money.savings import statement
from proxy.promotion.moves import in_force
from proxy.settings import Settings
from router.promotion import Promotion
from storage.database import ReadSession
from storage.repositories.calls import Volume, volumes
from storage.repositories.costs import cost_totals

DAYS_PER_MONTH = 365.25 / 12
HOURS_PER_MONTH = DAYS_PER_MONTH * 24
_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Economics:
    """What is known of a task's money; a cluster's `economics` in the admin API says what each figure is."""

    calls_per_month: float
    llm_usd_per_call: float | None
    slm_usd_per_call: float
    audit_share: float
    training_usd: float
    training_is_expected: bool
    running_usd_per_month: float
    balance_usd: float

    @property
    def saved_usd_per_call(self) -> float | None:
        """None where nobody knows the LLM's price."""
        if self.llm_usd_per_call is None:
            return None
        return self.llm_usd_per_call * (1 - self.audit_share) - self.slm_usd_per_call

    @property
    def break_even_calls_per_month(self) -> float | None:
        """None where no volume is enough, or nobody knows."""
        saved = self.saved_usd_per_call
        return None if saved is None or saved <= 0 else (self.training_usd + self.running_usd_per_month) / saved

    @property
    def pays(self) -> bool | None:
        """Whether today's volume is enough; None where nobody knows the LLM's price."""
        if self.saved_usd_per_call is None:
            return None
        needed = self.break_even_calls_per_month
        return needed is not None and self.calls_per_month >= needed

    @property
    def calls_until_paid_back(self) -> int | None:
        """Calls from now until nothing is owed any more; None where that never comes at today's volume."""
        owed_usd = -self.balance_usd + (self.training_usd if self.training_is_expected else 0.0)
        if owed_usd <= 0:
            return 0
        if self.saved_usd_per_call is None or not self.calls_per_month:
            return None
        gained = self.saved_usd_per_call - self.running_usd_per_month / self.calls_per_month
        return math.ceil(owed_usd / gained) if gained > 0 else None


def economics_of(session: ReadSession, settings: Settings) -> dict[str, Economics]:
    """Every task's, by cluster id."""
    known = volumes(session)
    if not known:
        return {}
    begin = min(volume.first_at for volume in known.values())
    end = max(volume.last_at for volume in known.values())
    months = max((end - begin).total_seconds() / _SECONDS_PER_DAY, 1.0) / DAYS_PER_MONTH
    spent: dict[str, float] = {}
    for cost in cost_totals(session):
        if cost.cluster_id is not None:
            spent[cost.cluster_id] = spent.get(cost.cluster_id, 0.0) + cost.usd
    expected_usd = sum(spent.values()) / len(spent) if spent else 0.0
    current = in_force(session)
    parts = statement(session, settings).parts
    return {
        cluster_id: Economics(
            calls_per_month=volume.calls / months,
            llm_usd_per_call=volume.llm_usd / volume.priced if volume.priced else None,
            slm_usd_per_call=_slm_usd_per_call(volume, settings),
            audit_share=settings.audit_share,  # in the long run: a young promotion's larger one is not for ever
            training_usd=spent.get(cluster_id, expected_usd),
            training_is_expected=cluster_id not in spent,
            running_usd_per_month=_running_usd_per_month(cluster_id, current, settings),
            balance_usd=parts[cluster_id].net_usd,
        )
        for cluster_id, volume in known.items()
        if cluster_id is not None
    }


def has_slm_prices(settings: Settings) -> bool:
    """Whether the settings say what an SLM costs; if not, all that counts against it is training and audits."""
    return bool(
        settings.slm_gpu_usd_per_hour
        or settings.slm_input_usd_per_million_tokens
        or settings.slm_output_usd_per_million_tokens
    )


def _slm_usd_per_call(volume: Volume, settings: Settings) -> float:
    if volume.slm_calls:
        return volume.slm_usd / volume.slm_calls
    input_usd = volume.input_tokens * settings.slm_input_usd_per_million_tokens
    return (input_usd + volume.output_tokens * settings.slm_output_usd_per_million_tokens) / 1e6


def _running_usd_per_month(cluster_id: str, current: Mapping[str, Promotion], settings: Settings) -> float:
    """A server's rent, divided by the tasks that are promoted there, this one among them."""
    if not settings.slm_url:
        return settings.slm_gpu_usd_per_hour * HOURS_PER_MONTH
    own = current.get(cluster_id)
    slm = own.slm if own else next(iter(settings.slm_url))
    tenants = {promotion.cluster_id for promotion in current.values() if promotion.slm == slm} | {cluster_id}
    return settings.slm_gpu_usd_per_hour * HOURS_PER_MONTH / len(tenants)

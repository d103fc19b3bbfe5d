"""The report as one HTML page that needs nothing else: no other host, no script, light and dark, on paper too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.report import charts
from proxy.report.replaceable import Measures, Report, Standing, TaskReport
from router.contract import ContractKind
from router.learning.proof.shares import Share

#: Tasks of one standing in the table; those that recur too seldom are many.
SHOWN_TASKS = 12
SHOWN_RARE = 6
_SPACE = "\u00a0"

_CSS = {standing: standing.name.lower().replace("_", "-") for standing in Standing}
_ANSWERS = {
    ContractKind.TOOL_CALL: "tool calls",
    ContractKind.JSON: "JSON",
    ContractKind.LABEL: "one of a few labels",
    ContractKind.TEXT: "free text",
}


@dataclass(frozen=True, slots=True)
class _Group:
    """Tasks of one standing; `more` of them are not shown."""

    standing: Standing
    tasks: Sequence[TaskReport]
    more: int
    more_calls: int


def page(found: Report, *, is_learned: bool, made_at: datetime, version: str) -> str:
    """The whole page.

    Args:
        is_learned: whether tasks were looked for at all.
        made_at: aware.
        version: of the product.
    """
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=found,
            groups=_groups(found),
            proved=[task for task in found.tasks if task.known.certificate is not None],
            most=max((task.part.calls.high for task in found.tasks), default=1.0),
            is_learned=is_learned,
            made_at=made_at,
            version=version,
            has_economics=any(task.known.economics for task in found.tasks),
            has_repeats=any(task.repeated for task in found.tasks),
            has_intervals=found.conversations > 1,
        )
    )


def _environment() -> Environment:
    """Escapes whatever it is given: labels quote prompts, and prompts are written by strangers."""
    environment = Environment(
        loader=PackageLoader("proxy.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "interval": interval, "usd": usd, "count": count, "day": day, "css": _CSS.__getitem__,
        "answers": _ANSWERS.__getitem__,
    }  # fmt: skip
    environment.globals |= {
        "Standing": Standing, "stacked_bar": charts.stacked_bar, "share_bar": charts.share_bar,
        "bound_bar": charts.bound_bar, "bars": _bars,
    }  # fmt: skip
    return environment


def _groups(found: Report) -> list[_Group]:
    """Tasks by their standing, in its order, the largest first."""
    order = list(Standing)
    ranked = sorted(found.tasks, key=lambda task: order.index(task.standing))  # stable: the largest stay first
    groups = []
    for standing, members in groupby(ranked, key=lambda task: task.standing):
        tasks = list(members)
        shown = SHOWN_RARE if standing is Standing.RARE else SHOWN_TASKS
        rest = tasks[shown:]
        groups.append(_Group(standing, tasks[:shown], len(rest), sum(task.calls for task in rest)))
    return groups


def _bars(found: Report) -> list[tuple[str, list[tuple[str, float]], Share]]:
    """A bar for calls, for tokens, and for cost where any is known: its name, its parts, what is claimed."""

    def parts(quantity: str) -> list[tuple[str, float]]:
        return [(_CSS[part.standing], getattr(part, quantity) or 0.0) for part in found.parts]

    measured: Measures = found.replaceable
    bars = [("calls", parts("calls"), measured.calls), ("tokens", parts("tokens"), measured.tokens)]
    if measured.cost is not None:
        bars.append(("cost", parts("cost"), measured.cost))
    return bars


def percent(value: float) -> str:
    """0.0519 → 5.2 %, on one line; what is there is never shown as nothing."""
    return f"<{_SPACE}0.1{_SPACE}%" if 0 < value < 0.0005 else f"{100 * value:.1f}{_SPACE}%"


def interval(share: Share) -> str:
    """4.3–6.2 %."""
    return f"{100 * share.low:.1f}–{100 * share.high:.1f}{_SPACE}%"


def usd(value: float) -> str:
    """1234.5 → $1,234.50; 0.0042 → $0.0042."""
    if 0 < value < 0.0001:
        return "< $0.0001"
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.4f}"


def count(value: int) -> str:
    """1234567 → 1,234,567."""
    return f"{value:,}"


def day(moment: datetime) -> str:
    """12 Mar 2026."""
    return f"{moment.day} {moment:%b %Y}"

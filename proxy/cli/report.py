"""`understudy report`."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_log, progress
from proxy.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.money.economics import Economics
    from proxy.report.replaceable import Report
    from proxy.report.tasks import LogReport
    from storage.repositories.calls import Totals
    from storage.repositories.clusters import StoredCluster


#: Tasks in the table unless all are asked for: with what stands around them, a screen of 25 lines.
ROWS = 12
#: Tasks that training doesn't pay for, told in words.
POOR_TASKS = 2


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the report; shares are parts of the whole log, in [0, 1].

    Attributes:
        cluster: None for the calls in no task.
        cost_usd: of the calls whose cost is known. None where no call's is, and so is the share.
        unpriced_calls: answered by a model without a known price.
        training_pays: at today's volume; None where nobody knows, and for the calls in no task.
        calls_per_month: on average over the log.
        break_even_calls_per_month: from which on training pays; None: never, or nobody knows.
    """

    cluster: str | None
    label: str
    contract: str | None
    calls: int
    share: float
    tokens: int
    tokens_share: float
    cost_usd: float | None
    cost_share: float | None
    unpriced_calls: int
    slm_calls: int
    training_pays: bool | None = None
    calls_per_month: float | None = None
    break_even_calls_per_month: float | None = None


def report(
    as_json: Json = False,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page instead.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every task, not only the largest.")] = False,
) -> None:
    """Show what is replaceable, by task, and whether training pays. Example: understudy report --html report.html

    What "replaceable" means, and what it does not, is on the page and in docs/proof.md.
    """
    from proxy.money.economics import economics_of, has_slm_prices
    from proxy.report.tasks import report_on_log
    from storage.repositories.calls import totals
    from storage.repositories.clusters import list_clusters

    settings = load_settings()
    database, cipher = open_log(settings)
    with progress("reading the log") as tell:
        found = report_on_log(database, cipher, settings, tell)
    if html is not None:
        _write_page(html, found)
        return
    with database.read() as session:
        clusters = {row.cluster_id: row for row in list_clusters(session, cipher)}
        sums = totals(session)
        economics = economics_of(session, settings)
    tasks = tasks_of(sums, clusters, economics)
    if as_json:
        sys.stdout.write(json.dumps(_as_json(tasks, found.report), indent=1) + "\n")
    elif tasks:
        _print(tasks, found.report, None if every else ROWS, has_slm_prices=has_slm_prices(settings))
        if not found.is_learned:
            console.print("tasks have not been looked for yet: `understudy learn`, then this again")
    else:
        console.print("the log is empty; send calls through the proxy, or `understudy import` past ones")


def _write_page(path: Path, found: LogReport) -> None:
    from proxy.report.page import page

    html = page(found.report, is_learned=found.is_learned, made_at=datetime.now(UTC), version=version("understudy"))
    path.write_text(html, encoding="utf-8")
    console.print(f"{path} is written; it names tasks by words of their prompts", soft_wrap=True)
    if not found.is_learned:
        console.print("tasks have not been looked for yet: `understudy learn`, then this again")


def _as_json(tasks: Sequence[Task], found: Report) -> dict[str, Any]:
    """Sums by task as in the table, and beside them what is replaceable; shares with their intervals."""
    by_id = {task.known.cluster_id: task for task in found.tasks}
    lines = []
    for task in tasks:
        line = asdict(task)
        if (reported := by_id.get(task.cluster or "")) is not None:
            line |= {
                "standing": reported.standing.value,
                "may_divert": reported.may_divert,
                "conversations": reported.conversations,
                "repeated": reported.repeated,
                "part": asdict(reported.part),
                "self_agreement": asdict(reported.self_agreement) if reported.self_agreement else None,
            }
        lines.append(line)
    return {
        "calls": sum(task.calls for task in tasks),
        "tokens": sum(task.tokens for task in tasks),
        "cost_usd": _sum(task.cost_usd for task in tasks),
        "unpriced_calls": sum(task.unpriced_calls for task in tasks),
        "conversations": found.conversations,
        "conversations_needed": found.needed,
        "replaceable": asdict(found.replaceable),
        "free_text": asdict(found.free_text),
        "parts": [asdict(part) for part in found.parts],
        "tasks": lines,
    }


def tasks_of(
    sums: Sequence[Totals], clusters: Mapping[str, StoredCluster], economics: Mapping[str, Economics]
) -> list[Task]:
    """Sums per cluster as lines of the report; calls of clusters that are no longer there count as in no task."""
    calls = sum(total.calls for total in sums)
    tokens = sum(total.input_tokens + total.output_tokens for total in sums)
    cost = sum(total.cost_usd for total in sums)
    tasks = []
    for total in sums:
        cluster = clusters.get(total.key or "")
        money = economics.get(total.key or "") if cluster else None
        own_tokens = total.input_tokens + total.output_tokens
        tasks.append(
            Task(
                cluster=total.key,
                label=cluster.label if cluster else "(no task)",
                contract=cluster.contract["kind"] if cluster else None,
                calls=total.calls,
                share=total.calls / calls if calls else 0.0,
                tokens=own_tokens,
                tokens_share=own_tokens / tokens if tokens else 0.0,
                cost_usd=total.cost_usd if total.priced else None,
                cost_share=(total.cost_usd / cost if cost else 0.0) if total.priced else None,
                unpriced_calls=total.unpriced,
                slm_calls=total.slm_calls,
                training_pays=money.pays if money else None,
                calls_per_month=money.calls_per_month if money else None,
                break_even_calls_per_month=money.break_even_calls_per_month if money else None,
            )
        )
    return tasks


def _print(tasks: Sequence[Task], found: Report, rows: int | None, *, has_slm_prices: bool) -> None:
    """A table of 80 columns. Each share stands beside what it is a share of."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    left = console.width - sum(width + 1 for _, width in _COLUMNS) - 1
    table.add_column("task", overflow="ellipsis", no_wrap=True, max_width=min(max(left, 8), 32))
    for name, width in _COLUMNS:
        figures = name not in ("id", "contract")
        table.add_column(name, justify="right" if figures else "left", no_wrap=True, width=width)
    shown, rest = tasks[:rows], tasks[rows:] if rows else []
    for task in shown:
        _add_row(table, task.label, task.cluster or "", task.contract or "", [task])
    if rest:
        _add_row(table, f"{len(rest)} more: --all", "", "", rest)
    _add_row(table, "the whole log", "", "", tasks)
    console.print(table)
    in_tasks = [task for task in tasks if task.contract]
    line = f"in tasks: {sum(task.share for task in in_tasks):.1%} of the calls"
    line += f", {sum(task.tokens_share for task in in_tasks):.1%} of the tokens"
    cost_share = _sum(task.cost_share for task in in_tasks)
    console.print(line + ("" if cost_share is None else f", {cost_share:.1%} of the cost"))
    _print_break_even(in_tasks, has_slm_prices=has_slm_prices)
    if any(task.unpriced_calls for task in tasks):
        console.print("? some calls name a model without a known price; they are not in the cost")
    _print_replaceable(found)


def _print_replaceable(found: Report) -> None:
    """Two lines under a head; each share with its interval."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("% that is", "calls", "tokens", "cost"):
        table.add_column(name, no_wrap=True)
    for name, measured in (("replaceable at most", found.replaceable), ("the same in free text", found.free_text)):
        shares = (measured.calls, measured.tokens, measured.cost)
        shown = [
            f"{_percent(share.value)} ({_percent(share.low)}–{_percent(share.high)})" if share else "?"
            for share in shares
        ]
        table.add_row(name, *shown)
    console.print(table)


def _print_break_even(tasks: Sequence[Task], *, has_slm_prices: bool) -> None:
    """Where training doesn't pay, in words."""
    known = [task for task in tasks if task.training_pays is not None]
    poor = [task for task in known if not task.training_pays]
    if not known:
        return
    line = f"training pays for {len(known) - len(poor)} of {len(known)} tasks at today's volume"
    console.print(line + (f"; not for {len(poor)}: --json" if len(poor) > POOR_TASKS else ""))
    for task in poor[:POOR_TASKS]:
        needed = task.break_even_calls_per_month
        why = "an SLM costs more a call" if needed is None else f"it takes {_compact(math.ceil(needed))} calls a month"
        console.print(f"  not for {task.cluster}: {why}; it has {_compact(round(task.calls_per_month or 0))}")
    if not has_slm_prices:
        console.print("no SLM has a price: set UNDERSTUDY_SLM_GPU_USD_PER_HOUR, or what it asks per token")


#: All but the label, which gets what is left of the line.
_COLUMNS = [
    ("id", 12), ("contract", 9), ("calls", 6), ("%", 5), ("tokens", 6), ("%", 5), ("USD", 9), ("%", 5),
]  # fmt: skip


def _add_row(table: Table, label: str, cluster: str, contract: str, tasks: Sequence[Task]) -> None:
    """One line for one task, or for the sum of many."""
    usd, usd_share = _sum(task.cost_usd for task in tasks), _sum(task.cost_share for task in tasks)
    unpriced = "?" if any(task.unpriced_calls for task in tasks) else ""
    table.add_row(
        label,
        cluster,
        contract,
        _compact(sum(task.calls for task in tasks)),
        _percent(sum(task.share for task in tasks)),
        _compact(sum(task.tokens for task in tasks)),
        _percent(sum(task.tokens_share for task in tasks)),
        unpriced if usd is None else _dollars(usd) + unpriced,
        "" if usd_share is None else _percent(usd_share),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _percent(share: float) -> str:
    """0.1234 → 12.3."""
    return f"{100 * share:.1f}"


def _dollars(usd: float) -> str:
    """12345.678 → 12.3k; 1234.567 → 1,234.57; 0.00421 → 0.0042."""
    return _compact(int(usd)) if usd >= 10_000 else f"{usd:,.2f}" if usd >= 1 else f"{usd:.4f}"


def _compact(number: int) -> str:
    """12345678 → 12.3M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)

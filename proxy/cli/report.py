"""`understudy report`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_log
from proxy.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storage.models import ClusterRow
    from storage.repositories.calls import Totals


#: Tasks in the table unless all are asked for.
ROWS = 25


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the report; shares are parts of the whole log, in [0, 1].

    Attributes:
        cluster: None for the calls in no task.
        cost_usd: of the calls whose model has a known price; `unpriced_calls` counts the others.
    """

    cluster: str | None
    label: str
    contract: str | None
    calls: int
    share: float
    tokens: int
    tokens_share: float
    cost_usd: float
    cost_share: float
    unpriced_calls: int
    slm_calls: int


def report(
    as_json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="Show every task, not only the largest.")] = False,
) -> None:
    """Show each task's calls, tokens, cost and share of the whole. Example: understudy report --json"""
    from storage.repositories.calls import totals
    from storage.repositories.clusters import list_clusters

    database, _ = open_log(load_settings())
    with database.read() as session:
        clusters = {row.cluster_id: row for row in list_clusters(session)}
        sums = totals(session)
    tasks = tasks_of(sums, clusters)
    if as_json:
        whole = {
            "calls": sum(task.calls for task in tasks),
            "tokens": sum(task.tokens for task in tasks),
            "cost_usd": sum(task.cost_usd for task in tasks),
            "unpriced_calls": sum(task.unpriced_calls for task in tasks),
        }
        sys.stdout.write(json.dumps(whole | {"tasks": [asdict(task) for task in tasks]}, indent=1) + "\n")
    elif tasks:
        _print(tasks, None if every else ROWS)
    else:
        console.print("the log is empty; send calls through the proxy, or `understudy import` past ones")


def tasks_of(sums: Sequence[Totals], clusters: Mapping[str, ClusterRow]) -> list[Task]:
    """Sums per cluster as lines of the report; calls of clusters that are no longer there count as in no task."""
    calls = sum(total.calls for total in sums)
    tokens = sum(total.input_tokens + total.output_tokens for total in sums)
    cost = sum(total.cost_usd for total in sums)
    tasks = []
    for total in sums:
        cluster = clusters.get(total.key or "")
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
                cost_usd=total.cost_usd,
                cost_share=total.cost_usd / cost if cost else 0.0,
                unpriced_calls=total.unpriced,
                slm_calls=total.slm_calls,
            )
        )
    return tasks


def _print(tasks: Sequence[Task], rows: int | None) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("task", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("id", no_wrap=True, min_width=12)
    for name in ("calls", "share", "tokens", "USD"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    shown, rest = tasks[:rows], tasks[rows:] if rows else []
    for task in shown:
        _add_row(table, task.label, task.cluster or "", [task])
    if rest:
        _add_row(table, f"{len(rest)} more: --all", "", rest)
    _add_row(table, "the whole log", "", tasks)
    console.print(table)
    in_tasks = sum(task.share for task in tasks if task.contract)
    cost_in_tasks = sum(task.cost_share for task in tasks if task.contract)
    console.print(f"in tasks: {in_tasks:.1%} of the calls, {cost_in_tasks:.1%} of the cost")
    if any(task.unpriced_calls for task in tasks):
        console.print("? some calls name a model without a known price; they are not in the cost")


def _add_row(table: Table, label: str, cluster: str, tasks: Sequence[Task]) -> None:
    """One line for one task, or for the sum of many."""
    table.add_row(
        label,
        cluster,
        f"{sum(task.calls for task in tasks):,}",
        f"{sum(task.share for task in tasks):.1%}",
        _compact(sum(task.tokens for task in tasks)),
        f"{sum(task.cost_usd for task in tasks):,.2f}" + ("?" if any(task.unpriced_calls for task in tasks) else ""),
    )


def _compact(number: int) -> str:
    """12345678 → 12.3M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)

"""What the demo ends with: tasks, proofs, calls, and money. Eighty columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from proxy.demo.agents import AGENTS
from proxy.demo.operator import Operator
from proxy.demo.traffic import Score

#: What two cores cost somewhere; the demo's proxy is told so.
MACHINE_USD_PER_HOUR = 0.10


@dataclass(slots=True)
class Outcome:
    """How the agents' calls went, by agent's name.

    Attributes:
        before: until anything was trained.
        proved: while the SLMs were in shadow and canary.
        served: while they were live.
        changed: of the changed task, until its SLM was withdrawn.
        after: of the changed task, afterwards.
    """

    before: dict[str, Score] = field(default_factory=dict)
    proved: dict[str, Score] = field(default_factory=dict)
    served: dict[str, Score] = field(default_factory=dict)
    changed: Score = field(default_factory=Score)
    after: Score = field(default_factory=Score)

    def add_proved(self, scores: Mapping[str, Score]) -> None:
        """Count calls that were made while SLMs proved themselves."""
        for name, score in scores.items():
            self.proved[name] = self.proved.get(name, Score()) + score


def show(console: Console, operator: Operator, tasks: Mapping[str, str], outcome: Outcome, since: datetime) -> None:
    """Print it all.

    Args:
        tasks: agent's name → its task's id.
        since: before anything was trained.
    """
    clusters = {name: operator.cluster(cluster_id) for name, cluster_id in tasks.items()}
    for title, table in (
        ("tasks, and what is certified at 95 %", _tasks(clusters)),
        ("calls since; disagreement by the truth that the simulator knows", _calls(outcome)),
        (f"USD since; list prices, and {MACHINE_USD_PER_HOUR:.2f} an hour for this machine", _money(operator, since)),
    ):
        console.print("", title, table, sep="\n", markup=False)


def _tasks(clusters: Mapping[str, dict[str, Any]]) -> Table:
    table = _table()
    for name in ("answers", "stage"):
        table.add_column(name)
    for name in ("failures", "bound", "threshold"):
        table.add_column(name, justify="right")
    for agent in AGENTS:
        cluster = clusters[agent.name]
        certificate = cluster["certificate"]
        stage = cluster["stage"] or ("withdrawn" if cluster["moves"] else "LLM")
        table.add_row(f"  {agent.name}", cluster["contract"]["kind"].replace("_", " "), stage, *_proof(certificate))
    return table


def _proof(certificate: dict[str, Any] | None) -> tuple[str, str, str]:
    """Failures of calls, bound, threshold."""
    if certificate is None:
        return "none", "", ""
    threshold = certificate["threshold"]
    return (
        f"{certificate['failures']} of {certificate['n']}",
        f"{certificate['disagreement_bound']:.1%}",
        "none" if threshold is None else f"{threshold:.3f}",
    )


def _calls(outcome: Outcome) -> Table:
    table = _table()
    for name in ("calls", "by the SLM", "disagree", "by the LLM"):
        table.add_column(name, justify="right")
    for agent in AGENTS:
        parts = [phase[agent.name] for phase in (outcome.proved, outcome.served) if agent.name in phase]
        if parts:
            table.add_row(f"  {agent.name}", *_figures(sum(parts, Score())))
    if outcome.changed.calls:
        table.add_row("  triage, LLM changed", *_figures(outcome.changed))
        table.add_row("  triage, withdrawn", *_figures(outcome.after))
    return table


def _figures(score: Score) -> tuple[str, str, str, str]:
    wrong = score.by_slm - score.right
    share = f" ({wrong / score.by_slm:.1%})" if score.by_slm else ""
    return str(score.calls), str(score.by_slm), f"{wrong}{share}", str(score.calls - score.by_slm - score.failed)


def _money(operator: Operator, since: datetime) -> Table:
    total = operator.get("/savings", **{"from": since.isoformat()})["total"]
    table = _table()
    table.show_header = False
    table.add_column(justify="right")
    for what, usd in (
        ("paid to the LLM, for what it answered", total["cost_usd"] - total["slm_cost_usd"]),
        ("spared: what it would have asked for the SLMs' answers", total["counterfactual_usd"]),
        *((f"  less {what}", 0.0 - total[name]) for what, name in _COSTS),
        ("saved, net", total["savings_usd"]),
    ):
        table.add_row(f"  {what}", f"{usd:.4f}")
    return table


_COSTS = (
    ("the SLMs' server", "gpu_usd"),
    ("training and certifying", "training_usd"),
    ("shadow copies", "shadow_usd"),
    ("audit copies", "audit_usd"),
    ("SLM answers that were not served", "wasted_usd"),
)


def _table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column(min_width=20)
    return table

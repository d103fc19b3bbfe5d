"""`understudy runs` and `understudy learner`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_data_dir, progress
from proxy.errors import UnderstudyError
from proxy.settings import load_settings

if TYPE_CHECKING:
    from proxy.runs.queue import Run, Runs

LOOK_SECONDS = 1.0


class RunEnded(UnderstudyError):
    """A run that was followed failed, or was cancelled."""

    code = "run_ended"


def runs(
    run: Annotated[str | None, typer.Argument(help="Follow this one until it ends.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the run instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many to list.")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs (learning, training, evaluation), or follow one. Example: understudy runs"""
    from proxy.runs.queue import Runs

    settings = load_settings()
    open_data_dir(settings)
    log = Runs(settings)
    if run is None:
        found = log.list_runs(limit=limit)
        if as_json:
            _print_json([asdict(each) for each in found])
        elif found:
            _print(found)
        else:
            console.print("no runs yet; POST /admin/v1/runs, or the schedule, begins some")
        return
    ended = log.cancel(run) if cancel else _follow(log, run)
    if as_json:
        _print_json(asdict(ended))
    elif cancel:
        console.print(f"run {run} is cancelled")
    elif ended.record:
        console.print(ended.record, soft_wrap=True)
    if not cancel and ended.record is None:
        raise RunEnded(f"run {run} {ended.status.value}" + (f": {ended.error}" if ended.error else ""))


def _follow(log: Runs, run_id: str) -> Run:
    with progress(f"run {run_id}") as tell:
        while True:
            run = log.get(run_id)
            if run.status.has_ended:
                return run
            tell(_how_far(run))
            time.sleep(LOOK_SECONDS)


def _how_far(run: Run) -> str:
    if run.progress is None:
        return str(run.status.value)
    left = run.progress["seconds_left"]
    return f"{run.progress['text']}" + (f", {_duration(left)} left" if left is not None else "")


def _print(found: list[Run]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in (("id", 36), ("kind", 8), ("task", 12), ("status", 9)):
        table.add_column(column, no_wrap=True, width=width)
    table.add_column("at", no_wrap=True, overflow="ellipsis", max_width=max(console.width - 69, 8))
    for run in found:
        at = run.error or (run.record if run.status.has_ended else _how_far(run)) or ""
        table.add_row(run.id, run.wish.kind.value, run.wish.cluster or "", run.status.value, at)
    console.print(table)


def _duration(seconds: float) -> str:
    """75 → 1:15; 4000 → 1:06:40."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=lambda moment: moment.isoformat()) + "\n")


def learner() -> None:
    """Do the runs on this machine, beside no proxy: with PostgreSQL, several share them. Example: understudy learner"""
    import os
    import signal

    from proxy.logs import configure_logs
    from proxy.runs.learner import run_learner

    settings = load_settings()
    open_data_dir(settings)
    configure_logs()
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))  # as SIGTERM: see `run_learner`
    os.nice(10)
    run_learner(settings, wait=False)

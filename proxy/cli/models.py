"""`understudy models`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_log
from proxy.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.learning.selection.catalogue import OpenModel
    from router.learning.selection.rule import Selection

_MAX_GIB = 2**20


class Weights(StrEnum):
    """What weights are kept in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    INT4 = "int4"


def models(
    cluster: Annotated[str | None, typer.Argument(help="A task's id; without it, the whole catalogue.")] = None,
    gpu_memory: Annotated[float, typer.Option(min=0.1, max=_MAX_GIB, help="Of the GPU, in GiB.")] = 24.0,
    adapters: Annotated[int, typer.Option(min=0, max=10_000, help="LoRA adapters on one model.")] = 8,
    calls: Annotated[int, typer.Option(min=1, max=100_000, help="Answered at once.")] = 8,
    precision: Annotated[Weights, typer.Option(help="What weights are kept in.")] = Weights.BF16,
    context: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Tokens of a long call with its answer; else by the log.")
    ] = None,
    licence: Annotated[list[str] | None, typer.Option(help="One that is acceptable; may be repeated.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="One that is needed, as en; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """List base models, or those that could do a task, and why. Example: understudy models c-12ab --gpu-memory 24"""
    from proxy.learning.selection import known_models, select_for_cluster
    from router.learning.selection.memory import GIB, Precision
    from router.learning.selection.needs import Hardware
    from router.learning.selection.record import record

    settings = load_settings()
    if cluster is None:
        known = known_models(settings)
        if as_json:
            _write([_as_json(model) for model in known])
        else:
            _print(known)
        return
    selection = select_for_cluster(
        *open_log(settings),
        settings,
        cluster,
        Hardware(int(gpu_memory * GIB), adapters, calls, Precision(precision.value)),
        context_tokens=context,
        languages=frozenset(language or ()),
        licences=frozenset(licence) if licence else None,
    )
    if as_json:
        _write(_selection_as_json(selection))
    else:
        for line in record(selection):
            console.print(line, markup=False, soft_wrap=True)


def _print(known: Sequence[OpenModel]) -> None:
    """A table of 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="ellipsis", no_wrap=True, max_width=37)
    for name in ("10⁹ weights", "context"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("tools", "licence"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for model in known:
        tools = "yes" if model.tools else "no"
        table.add_row(model.name, f"{model.parameters / 1e9:.2f}", f"{model.context_tokens:,}", tools, model.licence)
    console.print(table)


def _as_json(model: OpenModel) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(model), "serve_arguments": model.serve_arguments}


def _selection_as_json(selection: Selection) -> dict[str, Any]:
    from router.learning.selection.record import record

    fitting = [
        {"model": fit.model.name, "memory_bytes": {**asdict(fit.memory), "total": fit.memory.total}}
        for fit in selection.fitting
    ]
    excluded = [{"model": left.model.name, "reasons": list(left.reasons)} for left in selection.excluded]
    return {"fitting": fitting, "excluded": excluded, "record": record(selection)}


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")

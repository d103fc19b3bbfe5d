"""`understudy demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.terminal import console
from proxy.demo.slm_servers import Choice


def demo(
    once: Annotated[bool, typer.Option(help="End after the table instead of going on serving.")] = False,
    slm_server: Annotated[
        Choice, typer.Option(help="What serves the small model; auto: vLLM where it is installed, else the other.")
    ] = Choice.AUTO,
    base: Annotated[
        Path | None,
        typer.Option(help="Directory of a base model to take instead of one made here.", exists=True, file_okay=False),
    ] = None,
) -> None:
    """Run the whole loop on this machine, with a simulated LLM. Example: understudy demo --once"""
    from proxy.demo.story import run

    raise typer.Exit(run(once, slm_server, console, base.absolute() if base else None))

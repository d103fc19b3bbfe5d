"""`understudy demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy.cli.terminal import console


def demo(
    once: Annotated[bool, typer.Option(help="End after the table instead of going on serving.")] = False,
) -> None:
    """Run the whole loop on this machine, with a simulated LLM. Example: understudy demo --once"""
    from proxy.demo.story import run

    raise typer.Exit(run(once, console))

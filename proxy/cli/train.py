"""`understudy train`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.terminal import Json, console, open_data_dir, progress
from proxy.settings import load_settings

if TYPE_CHECKING:
    from proxy.runs.stage_process import Figures


class TrainingMethod(StrEnum):
    """How a base model is fine-tuned."""

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


def train(
    cluster: Annotated[str, typer.Argument(help="The task's id, as `understudy report` shows it.")],
    base: Annotated[
        str | None,
        typer.Option(
            help="Base model; else what the SLM server says it serves. auto: the cheapest that is good enough, tried "
            "out; so it is where there are several servers and none is named."
        ),
    ] = None,
    method: Annotated[TrainingMethod, typer.Option(help="How to train it.")] = TrainingMethod.LORA,
    name: Annotated[str | None, typer.Option(help="What the SLM is to be called.")] = None,
    slm: Annotated[str | None, typer.Option(help="Server name in UNDERSTUDY_SLM_URL.")] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune an SLM for a task and see what it is worth. Example: understudy train c-0123 --method lora"""
    from proxy.errors import Conflict
    from proxy.learning.workshop import Workshop
    from proxy.logs import configure_logs
    from proxy.runs.queue import RunKind, RunWish
    from proxy.runs.stages import stages_of
    from storage.repositories.clusters import check_cluster

    settings = load_settings()
    open_data_dir(settings)
    configure_logs()  # to standard error: what is printed may be JSON
    wish = RunWish(RunKind.TRAIN, cluster, base, method.value, name, slm).checked()
    wish = wish.completed(settings.slm_url)
    done: dict[str, Figures] = {}
    with progress("opening the log") as tell:
        workshop = Workshop.open(settings, tell)
        with workshop.database.read() as session:
            check_cluster(session, cluster)
        for stage in stages_of(wish):
            try:
                done[stage.name] = stage.work(workshop, wish, done)
            except ImportError as error:
                raise Conflict(f"{error.name} is not installed; pip install 'understudy[train]'") from error
            if not as_json:
                console.print(done[stage.name]["in_words"], soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(done, indent=1) + "\n")
        return
    found = done["evaluate"]
    if found["passes"]:
        console.print(f"next: understudy promote {cluster} --model {found['model']} --stage live", soft_wrap=True)
    else:
        console.print(
            f"next: let it prove itself on live traffic, which serves nobody: understudy promote {cluster} "
            f"--model {found['model']} --stage shadow",
            soft_wrap=True,
        )

"""The real learner with stages that a test holds the strings of, as a program: `python -m … DATA_DIR`.

A stage writes a line into `stages.log` when it begins, and then does what the run's `model` says, a JSON object: by
stage, `hold` (wait for the file `go-STAGE` in the data directory), `die` (a signal to its own process), `fail` (an
error with these words), `lines` (what to tell).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from proxy.errors import Conflict
from proxy.learning.workshop import Workshop
from proxy.logs import configure_logs
from proxy.runs.learner import run_learner
from proxy.runs.queue import RunWish
from proxy.runs.stage_process import Figures, Stage
from proxy.settings import load_settings
from storage.errors import DatabaseDown


def first(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    return play("first", workshop, wish, done)


def second(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    return play("second", workshop, wish, done)


def play(stage: str, workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    data_dir = workshop.settings.data_dir
    with (data_dir / "stages.log").open("a") as file:
        file.write(f"{stage} {wish.cluster} {os.getpid()}\n")
    script = json.loads(wish.model or "{}").get(stage, {})
    for line in script.get("lines", ()):
        workshop.progress(line)
    while script.get("hold") and not (data_dir / f"go-{stage}").exists():
        time.sleep(0.02)
    if "die" in script:
        os.kill(os.getpid(), getattr(signal, script["die"]))
    if "fail" in script:
        raise Conflict(script["fail"])
    if script.get("away") and not (data_dir / "database-is-back").exists():
        raise DatabaseDown("the database did not answer: connection refused")
    return {"before": sorted(done), "in_words": f"{stage} is done"}


def stages_of(wish: RunWish) -> tuple[Stage, ...]:
    return Stage("first", first), Stage("second", second)


if __name__ == "__main__":
    configure_logs()
    run_learner(load_settings(data_dir=Path(sys.argv[1])), stages_of)

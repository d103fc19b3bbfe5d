"""`understudy export`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from proxy.cli.terminal import open_log, progress
from proxy.errors import Conflict
from proxy.settings import load_settings

if TYPE_CHECKING:
    from router.learning.curation.samples import Curated


class ExportFormat(StrEnum):
    """Who reads it."""

    OPENAI_CHAT = "openai-chat"


def export(
    cluster: Annotated[str, typer.Argument(help="The task's id, as `understudy report` shows it.")],
    format: Annotated[ExportFormat, typer.Option("--format", help="Who reads it.")] = ExportFormat.OPENAI_CHAT,  # noqa: A002
    out: Annotated[Path | None, typer.Option("--out", help="A file for its owner alone; else standard output.")] = None,
) -> None:
    """Write a task's curated training samples as JSON lines. Example: understudy export c-0123 --out train.jsonl"""
    from proxy.learning.curation import curate_cluster

    settings = load_settings()
    database, cipher = open_log(settings)
    with progress("reading the log") as tell:
        curated = curate_cluster(database, cipher, settings, cluster, tell)
    if not curated.train:
        raise Conflict(f"cluster {cluster} has no call to train on: {_summary(curated)}")
    with _opened(out) as file:
        for sample in curated.train:
            file.write(json.dumps(sample.to_openai()) + "\n")
    sys.stderr.write(f"{_summary(curated)}\n")


@contextmanager
def _opened(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only when it is whole.

    Raises:
        Conflict: it can't be written.
    """
    if out is None:
        yield sys.stdout
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            yield file
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Conflict(f"{out}: can't be written: {error.strerror}") from error


def _summary(curated: Curated) -> str:
    """One line: what there is, and why the rest is not."""
    words = f"{len(curated.train)} samples, {len(curated.calibration)} calls held out for calibration and "
    words += f"{len(curated.certification)} for certification"
    if curated.drops:
        words += "; dropped: " + ", ".join(f"{count} {reason.value}" for reason, count in curated.drops.items())
    return words

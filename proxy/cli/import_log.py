"""`understudy import`."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.terminal import console, open_log, progress
from proxy.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.records import CallRecord

BATCH = 500  # calls whose bodies are in memory at once


class ImportFormat(StrEnum):
    """Where a log comes from."""

    OPENAI_CHAT = "openai-chat"
    LITELLM = "litellm"
    LANGFUSE = "langfuse"
    HELICONE = "helicone"
    OTEL_GENAI = "otel-genai"
    JSONL = "jsonl"


def import_log(
    file: Annotated[Path, typer.Argument(help="The log, gzipped or not.")],
    format: Annotated[ImportFormat, typer.Option("--format", help="Where it comes from.")],  # noqa: A002
) -> None:
    """Bring past calls into the call log. Example: understudy import calls.jsonl.gz --format jsonl"""
    from proxy.imports import import_calls
    from proxy.shipping import ledger_for
    from storage.repositories.calls import insert_calls

    settings = load_settings()
    database, cipher = open_log(settings)
    ledger = ledger_for(settings, database, cipher)
    read = 0

    def sink(records: Iterable[CallRecord]) -> int:
        """All in one transaction, so that a failure leaves nothing behind."""
        nonlocal read
        new, rest = 0, iter(records)
        with database.write() as session:
            while batch := list(islice(rest, BATCH)):
                new += sum(insert_calls(session, cipher, [(record, ledger.read_facts(record)) for record in batch]))
                read += len(batch)
                tell(f"importing: {read} calls")
        return new

    with progress("reading") as tell:
        new = import_calls(file, format.value, sink, tell)
    console.print(f"{new} calls imported, {read - new} were there already")

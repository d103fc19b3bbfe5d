"""Past calls out of other tools' logs, into the call log.

    rows.py          a file's rows, whichever of JSON lines, JSON and CSV it is; errors that name the line
    past.py          one past call, and the record it becomes
    messages.py      other vendors' messages, as OpenAI writes them
    jsonl.py, openai_chat.py, litellm.py, langfuse.py, helicone.py, otel_genai.py
                     one module per format: rows in, past calls out; each names the source of the shape it reads
    otlp.py          OpenTelemetry's JSON, which otel_genai.py reads

A reader takes what is a call to a model and passes over what isn't (spans of other kinds, calls that were never
answered). What a source says about costs is not taken over: the ledger prices imported calls as it does all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from proxy.imports import helicone, jsonl, langfuse, litellm, openai_chat, otel_genai
from proxy.imports.past import PastCall
from proxy.imports.rows import FileBroken, Malformed, Row, Rows
from storage.records import CallRecord

__all__ = ["FORMATS", "FileBroken", "import_calls", "read_calls"]

FORMATS: dict[str, Callable[[Iterable[Row]], Iterator[PastCall]]] = {
    "jsonl": jsonl.read,
    "openai-chat": openai_chat.read,
    "litellm": litellm.read,
    "langfuse": langfuse.read,
    "helicone": helicone.read,
    "otel-genai": otel_genai.read,
}


def import_calls(
    path: Path,
    format: str,  # noqa: A002 - the option's name
    sink: Callable[[Iterable[CallRecord]], int],
    progress: Callable[[str], None] = lambda text: None,
) -> int:
    """Import a log, whole or not at all.

    The file is read twice, so that nothing of a broken one reaches the sink and a large one needs no memory.

    Args:
        path: gzipped or not.
        format: a key of `FORMATS`.
        sink: stores records and says how many were new. Called once.
        progress: told how far the first reading is.

    Returns:
        How many calls were new. Ids are made of the calls' own identity, so importing a file again adds none.

    Raises:
        FileBroken: naming the file, the line and what is wrong with it; or there is no call in it.
    """
    number = 0
    for number, _ in enumerate(read_calls(path, format), 1):
        if number % 1000 == 0:
            progress(f"reading: {number} calls")
    if not number:
        raise FileBroken(f"{path}: there is no answered call in it that the format {format} can read")
    return sink(read_calls(path, format))


def read_calls(path: Path, format: str) -> Iterator[CallRecord]:  # noqa: A002
    """A log's calls, in the file's order, as they are read.

    Raises:
        FileBroken: as soon as the broken row is reached.
    """
    rows = Rows(path)
    seen: Counter[bytes] = Counter()
    try:
        for call in FORMATS[format](rows):
            seen[call.fingerprint] += 1
            yield call.record(format, seen[call.fingerprint])
    except Malformed as error:
        raise FileBroken(f"{path}, {rows.where}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a value of another type than the format has
        raise FileBroken(f"{path}, {rows.where}: not of the form {format}: {error!r}") from error

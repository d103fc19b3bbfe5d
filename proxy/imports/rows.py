"""A file's rows: JSON lines, one JSON value (a list, a page of an API, a single object) or CSV; gzipped or not."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import orjson

from proxy.errors import UnderstudyError

Row = dict[str, Any]

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
#: Prompts are longer than the 128 KiB that Python's CSV reader takes for a cell.
_LONGEST_CELL = 256 * 2**20


class FileBroken(UnderstudyError):
    """A file of calls can't be read; the message names it, the line, and what is wrong."""

    code = "file_broken"


class Malformed(ValueError):
    """A row is not what its format says. The message says why; who reads the rows knows where."""


class Rows:
    """An iterator over a file's rows.

    Attributes:
        where: the row that was read last, for error messages: `line 3`, or `item 3` of a JSON list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = "line 1"
        self._rows = self._read()

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        return next(self._rows)

    def _read(self) -> Iterator[Row]:
        """
        Raises:
            FileBroken
        """
        try:
            with open_plain(self.path) as file:
                if self.path.name.removesuffix(".gz").endswith(".csv"):
                    yield from self._csv(file)
                else:
                    yield from self._json(file)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise FileBroken(f"{self.path}: can't be read: {error}") from error
        except csv.Error as error:
            raise FileBroken(f"{self.path}, {self.where}: not CSV: {error}") from error

    def _csv(self, file: IO[bytes]) -> Iterator[Row]:
        csv.field_size_limit(_LONGEST_CELL)
        with io.TextIOWrapper(file, "utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            for cells in reader:
                self.where = f"line {reader.line_num}"
                if None in cells or None in cells.values():
                    raise FileBroken(f"{self.path}, {self.where}: it has not as many cells as the header")
                yield dict(cells)

    def _json(self, file: IO[bytes]) -> Iterator[Row]:
        first = True
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if not line.strip():
                continue
            self.where = f"line {number}"
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                if first:
                    yield from self._whole(self._pretty(number, line, file.read(), error))
                    return
                raise FileBroken(f"{self.path}, {self.where}: not JSON: {error.msg}, column {error.colno}") from error
            if first and not (isinstance(value, dict) and not _is_page(value)):
                yield from self._whole(value)
            else:
                yield self._row(value)
            first = False

    def _pretty(self, number: int, line: bytes, rest: bytes, alone: orjson.JSONDecodeError) -> Any:
        """One JSON value over many lines.

        Args:
            number: of its first line in the file.
            alone: what is wrong with the first line, taken by itself.

        Raises:
            FileBroken: naming the line that is wrong: a later one, if the first only opens something.
        """
        try:
            return orjson.loads(line + rest)
        except orjson.JSONDecodeError as error:
            opens = line.lstrip().startswith(b"[") or line.rstrip().endswith((b"{", b"[", b",", b":"))
            wrong, at = (error, number - 1 + error.lineno) if opens else (alone, number)
            self.where = f"line {at}"
            raise FileBroken(f"{self.path}, {self.where}: not JSON: {wrong.msg}, column {wrong.colno}") from error

    def _whole(self, value: Any) -> Iterator[Row]:
        """The rows of a file that is one JSON value."""
        items = value["data"] if _is_page(value) else value if isinstance(value, list) else [value]
        for number, item in enumerate(items, 1):
            self.where = f"item {number}"
            yield self._row(item)

    def _row(self, value: Any) -> Row:
        if not isinstance(value, dict):
            raise FileBroken(f"{self.path}, {self.where}: not a JSON object but {orjson.dumps(value)[:40].decode()}")
        return value


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading, gzipped (by its first bytes, whatever its name) or not.

    Raises:
        OSError
    """
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb")


def _is_page(value: Any) -> bool:
    """Whether a value is a page of a list API: `{"data": [...], "meta": ...}`."""
    return isinstance(value, dict) and isinstance(value.get("data"), list)


# Reading the values of a row ------------------------------------------------------------------------------------------


def decoded(value: Any) -> Any:
    """A value that may be JSON inside a string, which CSV and many exports have; other strings stay as they are."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def mapping(value: Any) -> dict[str, Any]:
    """An object, decoded if need be; empty where there is none."""
    value = decoded(value)
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """A non-empty string, or None."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """A finite number, also as a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None


def first(row: Row, names: Iterable[str]) -> Any:
    """The first of a row's fields that has a value: exports differ in the spelling of their names."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)

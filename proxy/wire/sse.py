"""Server-sent events out of bytes that are split anywhere, and the one event that ends an answer.

Grammar: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_EOL = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event.

    Attributes:
        data: the `data` lines joined by newlines; never decoded, because JSON parsers want bytes.
        name: the `event` field, `message` when there was none.
    """

    data: bytes
    name: str = "message"


class EventParser:
    """Sans-I/O: bytes in, whole events out. Memory is bounded by the largest event; time is linear in the bytes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # the unfinished last line, in the pieces in which it came
        self._after_cr = False  # a "\n" that comes next belongs to the "\r" before it
        self._first_line = True
        self._data: list[bytes] = []
        self._name = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        first, *rest = _EOL.split(chunk)
        if not rest:
            self._pieces.append(first)
            return []
        self._pieces.append(first)
        lines = [b"".join(self._pieces), *rest]
        self._pieces = [lines.pop()]
        if self._first_line:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            self._first_line = False
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> Event | None:
        """Interpret one whole line; an empty one dispatches what was gathered."""
        if not line:
            data, name = self._data, self._name
            self._data, self._name = [], b""
            return Event(b"\n".join(data), name.decode("utf-8", "replace") or "message") if data else None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        return None  # comments, `id` and `retry` mean nothing to an answer


def parse(stream: bytes) -> Iterator[Event]:
    """The events of a whole stream. As in a browser, an event that is cut at the end is not one."""
    yield from EventParser().feed(stream)


def encode(data: bytes, name: str | None = None) -> bytes:
    """One event, ready to be sent. `data` has no line breaks (JSON as orjson writes it)."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + data + b"\n\n"


DONE = encode(b"[DONE]")

_FINAL = rb"(?:response\.(?:completed|failed|incomplete)|message_stop)"
_FINAL_LINE = re.compile(
    rb"(?:^|[\r\n])(data: ?\[DONE\]|event: ?" + _FINAL + rb'|data: ?\{"type": ?"' + _FINAL + rb'")',
)
_BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
_LONGEST_FINAL_LINE = 64


class FinalEvent:
    """Finds the event after which a client believes that its answer is complete, in bytes that are split anywhere.

    That is `[DONE]` (chat, completions), `response.completed|failed|incomplete` (responses) or `message_stop`. The same
    words inside an answer's text are no such event: they don't begin a line, because JSON escapes line breaks.
    It costs five substring searches per chunk (0.2 µs) as long as nothing looks like the end; nothing is parsed.
    """

    __slots__ = ("_held", "_line")

    def __init__(self) -> None:
        self._line = b""  # the beginning of the unfinished last line
        self._held: bytes | None = None  # the final event, as long as it isn't whole

    def split(self, chunk: bytes) -> tuple[bytes, bytes]:
        """Part what may be forwarded at once from the whole final event and what follows it.

        Returns:
            `(now, final)`. `final` is empty until the final event is whole; what of it has come is held until then.
        """
        if self._held is not None:
            self._held += chunk
            return b"", self._release()
        line = self._line
        seen = line + chunk if line else chunk
        if (
            b"[DONE]" in seen
            or b"response.completed" in seen
            or b"response.incomplete" in seen
            or b"response.failed" in seen
            or b"message_stop" in seen
        ) and (match := _FINAL_LINE.search(seen)):
            start = max(match.start(1) - len(line), 0)
            self._held = chunk[start:]
            return chunk[:start], self._release()
        if seen.endswith(b"\n"):
            self._line = b""
        else:
            tail = seen[max(seen.rfind(b"\n"), seen.rfind(b"\r")) + 1 :]
            self._line = tail if len(tail) < _LONGEST_FINAL_LINE else tail[:_LONGEST_FINAL_LINE]
        return chunk, b""

    def held(self) -> bytes:
        """What is held when the stream ends in the middle of its final event."""
        held, self._held = self._held, None
        return held or b""

    def _release(self) -> bytes:
        held = self._held
        assert held is not None
        if not _BLANK_LINE.search(held):
            return b""
        self._held = None
        self._line = b""
        return held

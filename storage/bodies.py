"""Bodies taken apart at their messages, so that each message is stored once however often agents send it again.

A body becomes a *template*: literal bytes, and the numbers of the pieces that recur (the elements of `messages` and
`input`, the values of `tools`, `instructions` and `system`). Pieces are cut out of the text as it came, at the offsets
that the JSON scanner gives, so that putting them together gives back exactly the bytes, whatever their white space or
key order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NamedTuple

import msgspec

LISTS = frozenset({"messages", "input"})
VALUES = frozenset({"tools", "functions", "instructions", "system"})
MIN_SHARED_CHARS = 48
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder(strict=False).raw_decode


Pieces = list[tuple[bytes, bool]]  # (piece, whether it is shared); together they are the body
Template = list[bytes | int]  # literal bytes, and the numbers of shared pieces


class CutBodies(NamedTuple):
    """A call's bodies, ready to be stored; None where nothing is to be kept."""

    request: Pieces | None
    response: Pieces | None
    attempts: list[bytes]

    @property
    def shared(self) -> list[bytes]:
        """The pieces that may be stored already."""
        return [piece for body in (self.request, self.response) for piece, shared in body or () if shared]


class Bodies(msgspec.Struct, frozen=True, array_like=True):
    """A call's bodies as they are stored: a piece of its own, behind those that it refers to.

    Attributes:
        request, response: None where nothing is kept.
        attempts: what each attempt answered where that was not served, else empty.
    """

    request: Template | None
    response: Template | None
    attempts: list[bytes]

    @property
    def references(self) -> set[int]:
        """The numbers of the pieces that the bodies are made of."""
        return {part for template in (self.request, self.response) for part in template or () if isinstance(part, int)}


def split(body: bytes) -> Pieces:
    """Cut a body. Anything but a JSON object is one literal."""
    try:
        text = body.decode()
        spans = list(_spans(text))
    except (UnicodeDecodeError, ValueError, IndexError, RecursionError):
        return [(body, False)]
    pieces: Pieces = []
    done = 0
    for start, end in spans:
        if end - start >= MIN_SHARED_CHARS:
            pieces += [(text[done:start].encode(), False), (text[start:end].encode(), True)]
            done = end
    pieces.append((text[done:].encode(), False))
    return [piece for piece in pieces if piece[0]]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the shareable pieces of a JSON object are."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        return
    at = _skip(text, at + 1)
    while text[at] == '"':
        key, at = scanstring(text, at + 1, False)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError("no colon")
        at = _skip(text, at + 1)
        if key in LISTS and text[at] == "[":
            at = _skip(text, at + 1)
            while text[at] != "]":
                _, end = _decode(text, at)
                yield at, end
                at = _skip(text, end)
                if text[at] == ",":
                    at = _skip(text, at + 1)
            at += 1
        else:
            _, end = _decode(text, at)
            if key in VALUES:
                yield at, end
            at = end
        at = _skip(text, at)
        if text[at] != ",":
            return
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def join(template: Template, pieces: Mapping[int, bytes]) -> bytes:
    """Put a body together.

    Raises:
        KeyError: a piece is missing.
    """
    return b"".join(pieces[part] if isinstance(part, int) else part for part in template)

"""The name of the model in a body, found without parsing it: a parser would cost more than the rest of the relay."""

from __future__ import annotations

import re

from storage.encodings import decompress

_NAME = rb"[\x21\x23-\x5b\x5d-\x7e]{1,200}"
_IN_JSON = re.compile(rb'"model"\s*:\s*"(' + _NAME + rb')"')
_IN_FORM = re.compile(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n(' + _NAME + rb")\r\n")
#: Of a compressed answer, as much is read: inflating it takes 0.5 ms.
_READ_BYTES = 2**16


def model_in_answer(piece: bytes, content_type: str, content_encoding: str) -> bytes:
    """What an answer says its model is; empty where it doesn't, or not in this piece, or can't be read.

    Args:
        piece: the beginning of the answer's body, as it was sent.
        content_encoding: gzip, deflate and zstd are read.
    """
    if content_type and "json" not in content_type and not content_type.startswith("text/event-stream"):
        return b""
    if content_encoding:
        piece = decompress(piece[:_READ_BYTES], content_encoding) or b""
    return _first(_IN_JSON, piece)


def model_in_request(body: bytes, content_type: bytes) -> bytes:
    """The model that a request asks for, in JSON or in a form; empty where it names none."""
    return _first(_IN_FORM if content_type.startswith(b"multipart/form-data") else _IN_JSON, body)


def _first(pattern: re.Pattern[bytes], data: bytes) -> bytes:
    """The first match: 0.6 µs in an answer, 0.5 ms for each MiB without one."""
    found = pattern.search(data)
    return found[1] if found else b""

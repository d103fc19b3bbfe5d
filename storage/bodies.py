"""Bodies taken apart at their messages, so that each message is stored once however often agents send it again.

A body becomes a *template*: literal bytes, and references to the pieces that recur (the elements of `messages` and
`input`, the values of `tools`, `instructions` and `system`). Pieces are cut out of the text as it came, at the offsets
that the JSON scanner gives, so that putting them together gives back exactly the bytes, whatever their white space or
key order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]

import msgspec
import zstandard

from storage.cipher import Cipher

LISTS = frozenset({"messages", "input"})
VALUES = frozenset({"tools", "functions", "instructions", "system"})
MIN_SHARED_CHARS = 48
LEVEL = 6
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder(strict=False).raw_decode
_MAX_BYTES = 2**31


class Template(msgspec.Struct, frozen=True, array_like=True):
    """A body: `pieces` are literal bytes, or (hash,) of a shared one."""

    pieces: list[bytes | list[bytes]]


def split(body: bytes) -> list[tuple[bytes, bool]]:
    """Cut a body.

    Returns:
        (piece, shared) in order; the pieces together are the body. Anything but a JSON object is one literal.
    """
    try:
        text = body.decode()
        spans = list(_spans(text))
    except (UnicodeDecodeError, ValueError, IndexError, RecursionError):
        return [(body, False)]
    pieces: list[tuple[bytes, bool]] = []
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


class Packer:
    """Compresses and encrypts pieces and templates, and back."""

    def __init__(self, cipher: Cipher, dictionaries: Mapping[int, bytes]) -> None:
        """
        Args:
            dictionaries: zstd dictionaries by their id; the one with the highest id packs, all can be unpacked.
        """
        self._cipher = cipher
        self._dictionaries = {i: zstandard.ZstdCompressionDict(body) for i, body in dictionaries.items()}
        newest = self._dictionaries.get(max(self._dictionaries)) if self._dictionaries else None
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=newest)
        self._decompressors = {
            i: zstandard.ZstdDecompressor(dict_data=found) for i, found in self._dictionaries.items()
        }
        self._plain = zstandard.ZstdDecompressor()

    @property
    def dictionaries(self) -> frozenset[int]:
        """Ids of the dictionaries at hand."""
        return frozenset(self._dictionaries)

    def message_hash(self, piece: bytes) -> bytes:
        """Keyed hash, 16 bytes: tells equal pieces, and tells nobody without the key what they say."""
        return self._cipher.keyed_hash(piece, b"messages")

    def pack(self, data: bytes) -> bytes:
        """Compress and encrypt."""
        return self._cipher.encrypt(self._compressor.compress(data))

    def unpack(self, data: bytes) -> bytes:
        """Undo `pack`.

        Raises:
            Undecipherable: damaged, or of another key.
        """
        frame = self._cipher.decrypt(data)
        used = zstandard.get_frame_parameters(frame).dict_id
        return (self._decompressors[used] if used else self._plain).decompress(frame, max_output_size=_MAX_BYTES)

    def pack_body(self, body: bytes, share: Callable[[bytes, bytes], None]) -> bytes:
        """Take a body apart.

        Args:
            share: gets (hash, piece) of each piece to be stored beside the template.

        Returns:
            The packed template.
        """
        pieces: list[bytes | list[bytes]] = []
        for piece, shared in split(body):
            if shared:
                found = self.message_hash(piece)
                share(found, piece)
                pieces.append([found])
            else:
                pieces.append(piece)
        return self.pack(msgspec.msgpack.encode(Template(pieces)))

    def references(self, packed: bytes) -> list[bytes]:
        """Hashes of the shared pieces of a packed template, in order."""
        return [piece[0] for piece in self._template(packed).pieces if isinstance(piece, list)]

    def unpack_body(self, packed: bytes, pieces: Callable[[bytes], bytes]) -> bytes:
        """Put a body together.

        Args:
            pieces: hash → plain piece.
        """
        return b"".join(
            pieces(piece[0]) if isinstance(piece, list) else piece for piece in self._template(packed).pieces
        )

    def _template(self, packed: bytes) -> Template:
        return msgspec.msgpack.decode(self.unpack(packed), type=Template)


def train_dictionary(samples: list[bytes], dictionary_id: int, size: int = 64 * 1024) -> bytes | None:
    """Train on pieces of the log; None where they are too few or too small for zstd's trainer."""
    try:
        return zstandard.train_dictionary(size, [*samples], dict_id=dictionary_id, level=LEVEL).as_bytes()
    except zstandard.ZstdError:
        return None

"""How one record lies in a segment file: a header that can be found again after damage, then the sealed record.

    offset  bytes
         0      4  magic
         4      1  version
         5     16  salt of the segment's key
        21      4  number of the frame in its segment: the nonce
        25      4  length of what follows the header
        29      4  CRC-32 of the 29 bytes above
        33      …  AES-256-GCM ciphertext with its tag; the header is authenticated too

Every frame stands for itself: whatever happened to its neighbours, one whose bytes are whole can be read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.cipher import TAG_BYTES, Cipher

MAGIC = b"\xc5USR"
VERSION = 1
SALT_BYTES = 16
_PREFIX = struct.Struct(">4sB16sII")
_CRC = struct.Struct(">I")
HEADER_BYTES = _PREFIX.size + _CRC.size


class Sealer:
    """Makes the frames of one segment, into a buffer that is used again and again."""

    _KEEP_BYTES = 2**20  # a buffer grown beyond this for one large body is given back

    def __init__(self, cipher: Cipher, salt: bytes) -> None:
        self._aead = cipher.segment_cipher(salt)
        self._salt = salt
        self._number = 0
        self._buffer = bytearray(2**16)

    def seal(self, plain: bytes) -> memoryview:
        """Frame one record.

        Returns:
            The frame's bytes, valid until the next call.
        """
        size = len(plain) + TAG_BYTES
        total = HEADER_BYTES + size
        if total > len(self._buffer) or len(self._buffer) > self._KEEP_BYTES:
            self._buffer = bytearray(max(total, 2**16))
        prefix = _PREFIX.pack(MAGIC, VERSION, self._salt, self._number, size)
        header = prefix + _CRC.pack(zlib.crc32(prefix))
        view = memoryview(self._buffer)
        view[:HEADER_BYTES] = header
        self._aead.encrypt_into(_nonce(self._number), plain, header, view[HEADER_BYTES:total])
        self._number += 1
        return view[:total]


@dataclass(slots=True)
class Damage:
    """What a scan met besides whole frames.

    Attributes:
        torn_bytes: at the end of the segment: a record that was being written when its process or machine died.
        corrupt_bytes: anywhere else.
        corrupt_places: how many such places there are; at least one record was at each.
    """

    torn_bytes: int = 0
    corrupt_bytes: int = 0
    corrupt_places: int = 0


def scan(data: bytes, cipher: Cipher, damage: Damage) -> Iterator[bytes]:
    """Read the whole frames of a segment in order, stepping over damage to the next one.

    Args:
        data: the segment's bytes.
        damage: is counted up.

    Returns:
        The plain records.
    """
    salt, aead = b"", None
    offset = gap = 0  # where to look for a frame; where the last whole one ended
    while (offset := data.find(MAGIC, offset)) >= 0:
        plain = None
        header = _read_header(data, offset)
        if header is not None:
            found, number, size = header
            body = offset + HEADER_BYTES
            if found != salt or aead is None:
                salt, aead = found, cipher.segment_cipher(found)
            plain = _open(aead, number, data[body : body + size], data[offset:body])
        if plain is None:
            offset += 1
            continue
        damage.corrupt_bytes += offset - gap
        damage.corrupt_places += offset > gap
        offset = gap = offset + HEADER_BYTES + len(plain) + TAG_BYTES
        yield plain
    damage.torn_bytes += len(data) - gap


def _read_header(data: bytes, offset: int) -> tuple[bytes, int, int] | None:
    """(salt, number, size), or None where no header of a whole frame stands."""
    if offset + HEADER_BYTES > len(data):
        return None
    magic, version, salt, number, size = _PREFIX.unpack_from(data, offset)
    (crc,) = _CRC.unpack_from(data, offset + _PREFIX.size)
    if crc != zlib.crc32(data[offset : offset + _PREFIX.size]) or version != VERSION or magic != MAGIC:
        return None
    if offset + HEADER_BYTES + size > len(data):
        return None
    return salt, number, size


def _open(aead: AESGCM, number: int, sealed: bytes, header: bytes) -> bytes | None:
    try:
        return aead.decrypt(_nonce(number), sealed, header)
    except (InvalidTag, ValueError):
        return None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")

"""Blocks: many pieces of bodies, compressed together and encrypted as one.

Turns of a conversation resemble each other, and so do the calls of a task: recorded SWE-agent calls, each message
stored once, take 2.5 KB a call when pieces are compressed one by one, and 0.4 KB in blocks.
"""

from __future__ import annotations

import msgspec
import zstandard

from storage.cipher import Cipher, Undecipherable

#: Of pieces, before compression; one piece may go beyond. Reading any piece costs a block: 1 ms. 4 MiB would save 7 %.
BLOCK_BYTES = 2**20
LEVEL = 9  # 12 saves 1 % more in twice the time
_MAX_BYTES = 2**31

_decoder = msgspec.msgpack.Decoder(list[bytes])
_encoder = msgspec.msgpack.Encoder()


def seal(cipher: Cipher, pieces: list[bytes]) -> bytes:
    """Compress and encrypt."""
    return cipher.encrypt(zstandard.ZstdCompressor(level=LEVEL).compress(_encoder.encode(pieces)))


def unseal(cipher: Cipher, data: bytes) -> list[bytes]:
    """Undo `seal`.

    Raises:
        Undecipherable: damaged, or of another key.
    """
    frame = cipher.decrypt(data)
    try:
        return _decoder.decode(zstandard.ZstdDecompressor().decompress(frame, max_output_size=_MAX_BYTES))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise Undecipherable(f"a block of the log can't be read: {error}") from error

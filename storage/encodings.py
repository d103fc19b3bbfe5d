"""Content encodings undone, so that what a body says can be read."""

from __future__ import annotations

import zlib

import zstandard

#: A body that grows beyond this is no answer.
_MAX_BYTES = 256 * 2**20


def decompress(body: bytes, content_encoding: str) -> bytes | None:
    """Undo `content_encoding`, as far as a cut body goes. None when it isn't known, or the bytes aren't in it."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip" | "deflate":
            for window_bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by their header, then raw deflate
                try:
                    return zlib.decompressobj(window_bits).decompress(body, _MAX_BYTES)
                except zlib.error:
                    continue
            return None
        case "zstd":
            try:
                return zstandard.ZstdDecompressor().decompressobj().decompress(body)
            except zstandard.ZstdError:
                return None
    return None

"""Call ids: UUIDv7 (RFC 9562 §5.7), the idempotency key of the whole log."""

from __future__ import annotations

import os
import threading
import time
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_62_BITS = (1 << 62) - 1

_lock = threading.Lock()
_last_tick = 0


def new_call_id() -> bytes:
    """Make an id that sorts after every earlier one of this process.

    48 bits of milliseconds, then 12 bits of the millisecond's fraction (method 3 of §6.2) that are counted up when the
    clock stands still or goes back, then 62 random bits.

    Returns:
        16 bytes.
    """
    global _last_tick
    now_ns = time.time_ns()
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    tick = milliseconds << 12 | (rest_ns << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") & _RANDOM_62_BITS
    with _lock:
        _last_tick = tick = max(tick, _last_tick + 1)
    value = (tick >> 12) << 80 | _VERSION_7 | (tick & 0xFFF) << 64 | _VARIANT | random
    return value.to_bytes(16, "big")


def format_call_id(call_id: bytes) -> str:
    """Show an id as the world sees it: `0197a3c0-…`.

    Raises:
        ValueError: not 16 bytes.
    """
    return str(uuid.UUID(bytes=call_id))


def parse_call_id(text: str) -> bytes:
    """Read an id as `format_call_id` shows it.

    Raises:
        ValueError: not the canonical form.
    """
    parsed = uuid.UUID(text)
    if str(parsed) != text.lower():
        raise ValueError(f"{text!r} is not a call id: expected the form 0197a3c0-0000-7000-8000-000000000000")
    return parsed.bytes

"""Which writing systems a text uses, by Unicode block: a cheap stand-in for its language."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

#: First code point of a block → its script. A block ends where the next begins; letters outside all are `other`.
_BLOCKS = (
    (0x0041, "latin"),
    (0x0250, "other"),
    (0x0370, "greek"),
    (0x0400, "cyrillic"),
    (0x0530, "armenian"),
    (0x0590, "hebrew"),
    (0x0600, "arabic"),
    (0x0700, "other"),
    (0x0750, "arabic"),
    (0x0780, "other"),
    (0x08A0, "arabic"),
    (0x0900, "devanagari"),
    (0x0980, "bengali"),
    (0x0A00, "gurmukhi"),
    (0x0A80, "gujarati"),
    (0x0B00, "other"),
    (0x0B80, "tamil"),
    (0x0C00, "telugu"),
    (0x0C80, "kannada"),
    (0x0D00, "malayalam"),
    (0x0D80, "sinhala"),
    (0x0E00, "thai"),
    (0x0E80, "lao"),
    (0x0F00, "other"),
    (0x10A0, "georgian"),
    (0x1100, "hangul"),
    (0x1200, "ethiopic"),
    (0x13A0, "other"),
    (0x1780, "khmer"),
    (0x1800, "other"),
    (0x1E00, "latin"),
    (0x1F00, "greek"),
    (0x2000, "other"),
    (0x3040, "kana"),
    (0x3100, "other"),
    (0x3130, "hangul"),
    (0x3190, "other"),
    (0x3400, "han"),
    (0xA000, "other"),
    (0xAC00, "hangul"),
    (0xD7B0, "other"),
    (0xF900, "han"),
    (0xFB00, "latin"),
    (0xFB1D, "hebrew"),
    (0xFB50, "arabic"),
    (0xFE00, "other"),
    (0xFE70, "arabic"),
    (0xFF00, "other"),
    (0x20000, "han"),
    (0x32000, "other"),
)
_STARTS = [start for start, _ in _BLOCKS]
_READ_CHARS = 4000


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters per script.

    Args:
        text: its first 4,000 characters are read.

    Returns:
        script → share in (0, 1], summing to 1; empty for a text without letters.
    """
    text = text[:_READ_CHARS]
    if text.isascii():
        return {"latin": 1.0} if any(map(str.isalpha, text)) else {}
    counts = Counter(_BLOCKS[bisect_right(_STARTS, ord(character)) - 1][1] for character in text if character.isalpha())
    letters = counts.total()
    return {script: count / letters for script, count in counts.items()}

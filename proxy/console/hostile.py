"""Text that came from strangers, on its way to a page.

Templates escape markup and spell out characters that make a text look like another one (controls that turn the
direction of writing, invisible ones). What is left is length.
"""

from __future__ import annotations

import re

#: Unicode's bidirectional controls, other controls but tab and line feed, invisible separators, lone surrogates.
_DECEPTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with deceptive characters spelled out: U+202E becomes `⟨202E⟩`. Line ends become line feeds."""
    return _DECEPTIVE.sub(lambda found: f"⟨{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def clip(text: object, chars: int = 200) -> str:
    """The text's beginning, fit for a page, and an ellipsis where there is more."""
    whole = str(text)
    return whole[:chars] + ("…" if len(whole) > chars else "")


def one_line(text: object, chars: int = 120) -> str:
    """The same in one line."""
    return clip(" ".join(str(text)[: 4 * chars].split()), chars)

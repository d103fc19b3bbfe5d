"""Names for what is masked: inside a call the same value always has the same one, wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable

from router.learning.curation.reading import rewrite

#: How placeholders look: `[EMAIL_1]`.
PLACEHOLDER = re.compile(r"\[[A-Z]+(?:_[A-Z]+)*_\d+\]")
#: What may stand before a value that begins with a letter or digit: no other one, but an escaped line break.
_BEFORE = r"(?:(?<!\w)|(?<=\\[nrt]))"


class Placeholders:
    """The values of one call and their names, counted by kind in the order in which they are first seen.

    Args:
        found: (kind, value), as `Reader.find` gives them.
    """

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self.kinds: dict[str, str] = {}
        self.names: dict[str, str] = {}
        counts: dict[str, int] = {}
        listed = list(found)
        listed += [(kind, part) for kind, value in listed for part in _parts(kind, value)]
        for kind, value in listed:
            if value not in self.names:
                counts[kind] = counts.get(kind, 0) + 1
                self.kinds[value] = kind
                self.names[value] = f"[{kind}_{counts[kind]}]"
        longest_first = sorted(self.names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole, longest_first))) if longest_first else None

    def __bool__(self) -> bool:
        return bool(self.names)

    def put(self, text: str) -> str:
        """A text with placeholders for all values, also where the words that gave them away are missing."""
        if self._pattern is None:
            return text
        pattern = self._pattern
        return rewrite(text, lambda said: pattern.sub(lambda found: self.names[found[0]], said))


def _parts(kind: str, value: str) -> list[str]:
    """The words of a name, each of which is one too: who was introduced in full is then called by one of them."""
    words = value.split() if kind == "PERSON" else []
    return [word for word in words if len(word) > 2 and word[0].isupper()] if len(words) > 1 else []


def _whole(value: str) -> str:
    """A pattern for a value that isn't a part of a longer word or number."""
    before = _BEFORE if value[:1].isalnum() else ""
    after = r"(?!\w)" if value[-1:].isalnum() else ""
    return before + re.escape(value) + after

"""The words around a number, which say what it is. Field names are words too: `phone_number` is two."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

#: As far as a label stands from its value: `Phone (office, after 5 pm): …`, or on the line above.
_BEFORE_CHARS = 80
_AFTER_CHARS = 24
_WORDS_BEFORE = 6
_WORDS_AFTER = 2
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")  # not iPhone


def words_before(text: str, start: int, count: int = _WORDS_BEFORE) -> list[str]:
    """The last words before a place, casefolded; across line breaks, but not across a paragraph that has ended."""
    lead = text[max(0, start - _BEFORE_CHARS) : start]
    stripped = lead.rstrip()
    paragraph = stripped.rpartition("\n\n")[2]
    return words(paragraph)[-count:]


def words_after(text: str, end: int, count: int = _WORDS_AFTER) -> list[str]:
    """The next words on the same line, casefolded: `555-0137 (mobile)`."""
    line = text[end : end + _AFTER_CHARS].partition("\n")[0]
    return words(line)[:count]


def mentions(text: str, start: int, end: int, labels: AbstractSet[str]) -> bool:
    """Whether one of some casefolded words stands near a place, mostly before it."""
    return not labels.isdisjoint(words_before(text, start)) or not labels.isdisjoint(words_after(text, end))


def words(text: str) -> list[str]:
    """Its words in order, casefolded."""
    return [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", text))]

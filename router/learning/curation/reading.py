"""Reading a text for findings, by what it says: inside JSON by its strings, each with its field's name before it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from router.learning.curation.addresses import Addresses
from router.learning.curation.credentials import Credentials
from router.learning.curation.findings import Recogniser, settle
from router.learning.curation.identifiers import Identifiers
from router.learning.curation.people import People
from router.learning.curation.phones import Phones
from storage.redaction import is_json

#: A string of valid JSON with the colon of a field's name, or a number as long as an account's.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|(?<![\w.+-])\d{7,19}(?![\w.])')
#: Escapes in quoted code; as two characters they would hide where a word begins.
_ESCAPES = re.compile(r"\\[nrt]")
_FIELD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: Texts whose findings are remembered: every turn of a conversation sends the history again.
_REMEMBERED = 20_000


def standard_recognisers() -> list[Recogniser]:
    """Patterns, checksums and numbering plans: no model, no download. Takes seconds: Presidio is loaded."""
    return [Credentials(), Identifiers(), Phones(), People(), Addresses()]


class Reader:
    """Finds what is to be masked. Remembers texts, so one reader serves a whole cluster.

    Args:
        recognisers: `standard_recognisers()`, and any further ones, such as `names.NamedEntities`.
    """

    def __init__(self, recognisers: Sequence[Recogniser]) -> None:
        self._recognisers = recognisers
        self._find = lru_cache(_REMEMBERED)(self._look)

    def find(self, text: str) -> tuple[tuple[str, str], ...]:
        """What there is in a text: (kind, value), in order, repeated as often as it is there."""
        return self._find(text)

    def _look(self, text: str) -> tuple[tuple[str, str], ...]:
        if is_json(text):
            return tuple(found for said, field in _strings(text) for found in self._in_field(said, field))
        return tuple((kind, text[start:end]) for kind, start, end in self.spans(text))

    def _in_field(self, said: str, field: str) -> Iterator[tuple[str, str]]:
        if is_json(said):
            yield from self.find(said)
            return
        lead = " ".join(_FIELD.findall(_CAMEL.sub(" ", field)))
        lead = f"{lead}: " if lead else ""
        for kind, start, end in self.spans(lead + said):
            if start >= len(lead):
                yield kind, said[start - len(lead) : end - len(lead)]

    def spans(self, text: str) -> list[tuple[str, int, int]]:
        """What there is in a plain text: (kind, start, end), in order, apart from each other."""
        plain = _ESCAPES.sub("  ", text)
        findings = settle(finding for recogniser in self._recognisers for finding in recogniser.find(plain))
        return [(finding.kind, finding.start, finding.end) for finding in findings]


def _strings(text: str) -> Iterator[tuple[str, str]]:
    """The strings and long numbers of a JSON text, each with the name of the field that it is in."""
    field = ""
    for token in _TOKEN.finditer(text):
        said = json.loads(token[0].removesuffix(token[1] or "")) if token[0][0] == '"' else token[0]
        if token[1]:
            field = said
            yield said, ""
        else:
            yield said, field


def rewrite(text: str, change: Callable[[str], str]) -> str:
    """Change what a text says, in JSON string by string: JSON stays JSON, and what isn't changed keeps its spelling.

    A number that is changed becomes a string.
    """
    if not is_json(text):
        return change(text)

    def rewritten(token: re.Match[str]) -> str:
        colon = token[1] or ""
        spelled = token[0].removesuffix(colon)
        said = json.loads(spelled) if spelled[0] == '"' else spelled
        changed = rewrite(said, change)
        return token[0] if changed == said else json.dumps(changed, ensure_ascii=spelled.isascii()) + colon

    return _TOKEN.sub(rewritten, text)

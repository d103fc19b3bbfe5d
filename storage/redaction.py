"""`UNDERSTUDY_LOG_BODIES=redacted`: what identifies people or opens doors is blacked out before it is stored.

Patterns only, and rather too much than too little. They work on what JSON strings say, not on how they are spelled, so
JSON stays JSON, and what holds nothing of the kind keeps its bytes. A stream's pieces are judged together: an address
that came in three events is found as well. This is not the masking for training, which keeps what an answer needs.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

_NO_DATE = r"(?!(?:19|20)\d\d-[01]\d-[0-3]\d(?!\d))"
_PATTERNS = [
    (re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), "[EMAIL]"),
    (re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"), "Bearer [SECRET]"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|xox[abp]|AKIA|AIza|glpat|hf|us)[-_]?[A-Za-z0-9_-]{16,}\b"), "[SECRET]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\b"), "[SECRET]"),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), "[IBAN]"),
    (re.compile(rf"\b{_NO_DATE}(?:\d[ -]?){{12,18}}\d\b"), "[NUMBER]"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "[IP]"),
    (
        re.compile(
            rf"(?<![\w.])(?<!\d-){_NO_DATE}"
            r"\+?\(?\d{2,4}\)?[ /.-]\d{2,4}[ /.-]\d{2,6}(?:[ /.-]\d{2,6})?(?![\w.])"
        ),
        "[PHONE]",
    ),
    (re.compile(r"\+\d{9,15}\b"), "[PHONE]"),
]
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.+-])\d{11,19}(?![\w.])')  # of valid JSON: a string, a long number
_TIME = re.compile(r"1\d{12}|1\d{15}|1\d{18}")  # milli-, micro- or nanoseconds since 1970
_SPACE = " \t\n\r"
_STREAM = re.compile(r"\s*(?:data|event|id|retry)?:")
_LINE_END = re.compile(r"(\r\n|\n|\r)")
#: Fields that carry a piece of a longer text in the events of a stream, and those that say which text it is.
_PIECES = frozenset(
    {"content", "reasoning_content", "reasoning", "refusal", "text", "arguments", "delta", "partial_json"}
)
_IDENTITIES = ("index", "item_id", "output_index", "content_index", "summary_index")

#: The line that a piece is on, the object that holds it, its field there.
_Piece = tuple[int, dict[str, Any], str]


def redact(body: bytes) -> bytes:
    """Black out e-mail addresses, phone numbers, cards and accounts, IP addresses, keys and tokens.

    Args:
        body: JSON, server-sent events of JSON, or any text; bytes that are no UTF-8 are read as Latin-1.
    """
    try:
        text, encoding = body.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = body.decode("latin-1"), "latin-1"
    try:
        cleared = _stream(text) if _STREAM.match(text) else _clear(text)
    except RecursionError:  # nested deeper than anything that has a meaning
        cleared = _clear_text(text)
    return cleared.encode(encoding)


def _clear(text: str) -> str:
    """JSON by its strings and numbers, other text as a whole."""
    if is_json(text):
        return _TOKEN.sub(_clear_token, text)
    return _clear_text(text)


def _clear_text(text: str) -> str:
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def is_json(text: str) -> bool:
    """Whether it is a JSON object or list."""
    if not text.lstrip(_SPACE).startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _clear_token(found: re.Match[str]) -> str:
    token = found[0]
    if not token.startswith('"'):
        return token if _TIME.fullmatch(token) else '"[NUMBER]"'
    said = json.loads(token)
    cleared = _clear(said)
    return token if cleared == said else json.dumps(cleared)


def _stream(text: str) -> str:
    """Server-sent events. Where the pieces of a text hold something together, the first gets it all, cleared."""
    lines = _LINE_END.split(text)  # lines at even places, what ended them at odd ones
    events: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[Any, ...], list[_Piece]] = defaultdict(list)
    for at in range(0, len(lines), 2):
        if (event := _read_event(lines[at])) is not None:
            events[at] = event
            for identity, holder, field in _pieces(event, ()):
                texts[identity].append((at, holder, field))
    changed = set()
    for pieces in itertools.chain.from_iterable(map(_apart, texts.values())):
        said = "".join(holder[field] for _, holder, field in pieces)
        cleared = _clear(said)
        if cleared != said:
            for at, holder, field in pieces:
                holder[field], cleared = cleared, ""
                changed.add(at)
    for at in range(0, len(lines), 2):
        name, colon, value = lines[at].partition(":")
        event = events.get(at)
        if event is None:
            lines[at] = name + colon + _clear(value)
        elif (cleared_event := _clear_around(event)) != event or at in changed:
            lines[at] = f"data: {json.dumps(cleared_event)}"
    return "".join(lines)


def _clear_around(value: Any, field: str = "") -> Any:
    """An event, all cleared but the pieces of longer texts: those have been judged, and alone say something else."""
    match value:
        case dict():
            return {_clear(name): _clear_around(inner, name) for name, inner in value.items()}
        case list():
            return [_clear_around(inner) for inner in value]
        case str() if field in _PIECES:
            return value
    return json.loads(_TOKEN.sub(_clear_token, json.dumps(value)))


def _apart(pieces: list[_Piece]) -> list[list[_Piece]]:
    """The pieces of one text. Some servers give whole tool calls without an index: then each piece is a text."""
    whole = all(is_json(holder[field]) for _, holder, field in pieces if holder[field])
    return [[piece] for piece in pieces] if whole else [pieces]


def _read_event(line: str) -> dict[str, Any] | None:
    if not line.startswith("data:"):
        return None
    try:
        event = json.loads(line.removeprefix("data:"), object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; what a repeated key says would be lost in it, and kept in the line.

    Raises:
        ValueError: a key is repeated.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _pieces(value: Any, identity: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    """The pieces of texts in an event: (which text, the object that holds it, its field there)."""
    if isinstance(value, dict):
        # What kind of event it is tells texts apart; a tool call names its type in its first piece only.
        names = _IDENTITIES if identity else ("type", *_IDENTITIES)
        identity += tuple(repr(value.get(name)) for name in names)
        for field, inner in value.items():
            if isinstance(inner, str) and field in _PIECES:
                yield (*identity, field), value, field
            else:
                yield from _pieces(inner, (*identity, field))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            indexed = isinstance(inner, dict) and "index" in inner
            yield from _pieces(inner, identity if indexed else (*identity, place))

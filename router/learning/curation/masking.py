"""A conversation without personal data and secrets, whose answer can still be learned.

What an answer copies from its request survives, because both get the same placeholder. Where an answer can't be had
from the masked request (it takes a part of a masked value, spells it otherwise, needs it as a number, or makes one up),
the call is no sample: a model that is trained on it learns to invent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from router.learning.curation.chat import ChatMessage
from router.learning.curation.drops import Drop, Dropped
from router.learning.curation.placeholders import PLACEHOLDER, Placeholders
from router.learning.curation.reading import Reader
from storage.redaction import is_json

_WORD = re.compile(r"\w{3,}")
_DIGITS = re.compile(r"\d{3,}")


@dataclass(frozen=True, slots=True)
class Masked:
    """A conversation with placeholders.

    Attributes:
        chat: as it was given, masked; the last message is the answer.
        tools: as given; their descriptions are masked.
        kinds: how many different values of each kind there were.
    """

    chat: list[ChatMessage]
    tools: list[dict[str, Any]]
    kinds: Counter[str]


def mask(chat: Sequence[ChatMessage], tools: Sequence[dict[str, Any]], reader: Reader) -> Masked:
    """Mask a conversation.

    Raises:
        Dropped: `MASKED_INVENTED`, `MASKED_AMBIGUOUS` or `MASKED_BROKEN`.
    """
    described = [text for tool in tools for text in _descriptions(tool)]
    texts = [*described, *(text for message in chat for text in _texts(message))]
    placeholders = Placeholders(found for text in texts for found in reader.find(text))
    if not placeholders:
        return Masked(list(chat), list(tools), Counter())
    if any(name in text for text in texts for name in placeholders.names.values()):
        raise Dropped(Drop.MASKED_AMBIGUOUS)  # somebody else's placeholders: which is which?
    masked = [_rewritten(message, placeholders.put) for message in chat]
    masked_tools = [_redescribed(tool, placeholders.put) for tool in tools]
    request = [*map(placeholders.put, described), *(text for message in masked[:-1] for text in _texts(message))]
    _check(placeholders, request, chat[-1], masked[-1])
    if placeholders.put(spelled := json.dumps(masked_tools)) != spelled:
        raise Dropped(Drop.MASKED_AMBIGUOUS)  # a masked value is one of a tool's names or choices
    return Masked(masked, masked_tools, Counter(placeholders.kinds.values()))


def _check(placeholders: Placeholders, request: Sequence[str], answer: ChatMessage, masked_answer: ChatMessage) -> None:
    """See that a masked answer can be had from its masked request, and has kept its shape."""
    texts, masked_texts = list(_texts(answer)), list(_texts(masked_answer))
    given, taken = _names_in(request), _names_in(masked_texts)
    if missing := (taken - given).intersection(placeholders.names.values()):
        known = " ".join(_identity(value) for value, name in placeholders.names.items() if name in given)
        values = [value for value, name in placeholders.names.items() if name in missing]
        derived = any(_identity(value) in known for value in values)
        raise Dropped(Drop.MASKED_AMBIGUOUS if derived else Drop.MASKED_INVENTED)
    parts = {part for value in placeholders.names for part in _parts(value)}
    left = {part for text in masked_texts for part in _parts(PLACEHOLDER.sub(" ", text))} & parts
    if left and left - {part for text in request for part in _parts(PLACEHOLDER.sub(" ", text))}:
        raise Dropped(Drop.MASKED_AMBIGUOUS)
    if not all(_same_shape(text, masked) for text, masked in zip(texts, masked_texts, strict=True)):
        raise Dropped(Drop.MASKED_BROKEN)


def _names_in(texts: Sequence[str]) -> set[str]:
    return {name for text in texts for name in PLACEHOLDER.findall(text)}


def _texts(message: ChatMessage) -> Iterator[str]:
    """What a message says: its content, and the arguments of its calls."""
    if content := message.get("content"):
        yield content
    for call in message.get("tool_calls", ()):
        yield call["function"]["arguments"]


def _rewritten(message: ChatMessage, change: Callable[[str], str]) -> ChatMessage:
    changed = dict(message)
    if message.get("content"):
        changed["content"] = change(message["content"])
    if "tool_calls" in message:
        changed["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": change(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return changed


def _descriptions(value: Any) -> Iterator[str]:
    """What a tool says in words, at all depths."""
    match value:
        case dict():
            for key, inner in value.items():
                if key == "description" and isinstance(inner, str):
                    yield inner
                else:
                    yield from _descriptions(inner)
        case list():
            for inner in value:
                yield from _descriptions(inner)


def _redescribed(value: Any, change: Callable[[str], str]) -> Any:
    """A tool with its descriptions changed. Names and choices are its form, and stay."""
    match value:
        case dict():
            return {
                key: change(inner) if key == "description" and isinstance(inner, str) else _redescribed(inner, change)
                for key, inner in value.items()
            }
        case list():
            return [_redescribed(inner, change) for inner in value]
    return value


def _identity(value: str) -> str:
    """What two spellings of one value have in common: `+1 (555) 0137` and `15550137`, `A@b.org` and `a@B.org`."""
    digits = re.sub(r"\D", "", value)
    letters = re.sub(r"[\W\d_]", "", value)
    return digits if len(digits) > len(letters) else re.sub(r"\W", "", value).casefold()


def _parts(text: str) -> Iterator[str]:
    """Words and runs of digits that are long enough to tell where they come from."""
    for word in _WORD.findall(text):
        yield word.casefold()
        if not word.isdigit():
            yield from _DIGITS.findall(word)


def _same_shape(text: str, masked: str) -> bool:
    """Whether JSON is still JSON, with the same keys, and text where there was text."""
    if not is_json(text):
        return True
    return is_json(masked) and _alike(json.loads(text), json.loads(masked))


def _alike(value: Any, masked: Any) -> bool:
    if isinstance(value, dict) and isinstance(masked, dict):
        return value.keys() == masked.keys() and all(_alike(inner, masked[key]) for key, inner in value.items())
    if isinstance(value, list) and isinstance(masked, list):
        return len(value) == len(masked) and all(map(_alike, value, masked))
    return type(value) is type(masked)

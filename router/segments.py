"""The alphabet of skeletons: which messages are read, and the masked lines that they fall into.

Agent prompts are templates. A template's own text comes back line by line, letter by letter, in every conversation;
what is filled into it does not. So a message is cut into *segments* (lines; long lines into sentences), numbers and ids
are masked, and a segment of six or more words also counts by its first and by its last four words: a name inside a line
then hides only the whole line, not its two ends.

History between the first user message and the last assistant turn is not read: it is payload, and it grows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from router.features import SYSTEM_ROLES, CallFeatures

MAX_MESSAGE_CHARS = 16 * 1024
_HEAD_CHARS = MAX_MESSAGE_CHARS * 3 // 4
_TAIL_CHARS = MAX_MESSAGE_CHARS - _HEAD_CHARS
MAX_TAIL_MESSAGES = 4
CACHED_TEXTS = 256  # cut into tokens, a long one takes 50 KB
LONG_LINE_CHARS = 160
END_WORDS = 4
WORDS_WITH_ENDS = 6
IDENTITY_WITHIN = 12  # segments

#: Nothing shorter than 12 is an id: the quick look halves the time, and so does what ASCII spares on plain texts.
_ID = r"\b(?=[\w-]{12})(?:[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{12,}|(?=\w*\d)(?=\w*[A-Za-z])\w{16,})\b"
_NUMBER = r"\d(?:\d|[.,:]\d)*"
_MASKS = tuple((re.compile(_ID, flags), re.compile(_NUMBER, flags)) for flags in (re.UNICODE, re.ASCII))
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=\S)")
_IDENTITY = re.compile(
    r"\s*(?:you are|you're|act as|i want you to act as|your name is|imagine you are)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Zones:
    """The texts that are read, in order; of each at most 16 KiB, three quarters from its start, one from its end.

    Attributes:
        system: system and developer messages.
        user: the first user message.
        tail: messages after the last assistant turn, at most four, the first user message excepted.
        keys: names of tools, and what the response format asks for.
    """

    system: tuple[str, ...]
    user: str
    tail: tuple[str, ...]
    keys: tuple[str, ...]


def zones(features: CallFeatures) -> Zones:
    """Pick the texts of a call that can tell its task."""
    messages = features.messages
    system: list[str] = []
    first_user = -1
    last_assistant = -1
    for place, message in enumerate(messages):
        role = message.role
        if role in SYSTEM_ROLES:
            system.append(_bounded(message.text))
        elif role == "assistant":
            last_assistant = place
        elif first_user < 0 and role == "user":
            first_user = place
    start = max(last_assistant + 1, first_user + 1)
    tail = [message.text for message in messages[start:] if message.role not in SYSTEM_ROLES][-MAX_TAIL_MESSAGES:]
    user = messages[first_user].text if first_user >= 0 else ""
    keys = tuple([f"tool:{name}" for name in features.tools] + [f"format:{key}" for key in features.format_keys])
    return Zones(tuple(system), _bounded(user), tuple(map(_bounded, tail)), keys)


def _bounded(text: str) -> str:
    """What is read of a message, and what caches hold of it."""
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:_HEAD_CHARS]}\n{text[-_TAIL_CHARS:]}"


@lru_cache(CACHED_TEXTS)
def segments(text: str) -> tuple[str, ...]:
    """Cut a message into masked segments, in order, an identity sentence ("You are …") near the start first.

    Cached by content, because agents send their history again with every call. The ends of long segments follow
    as tokens of their own, marked `^` and `$`.
    """
    identifier, number = _MASKS[text.isascii()]
    masked = number.sub("#", identifier.sub("@", text))
    whole: list[str] = []
    for line in masked.splitlines():
        if len(line) <= LONG_LINE_CHARS:
            whole.append(line)
        else:
            whole += _SENTENCE_END.split(line)
    whole = [clean for segment in whole if (clean := " ".join(segment.split()))]
    for place, segment in enumerate(whole[:IDENTITY_WITHIN]):
        if _IDENTITY.match(segment):
            if place:
                whole.insert(0, whole.pop(place))
            break
    return tuple(whole)


def ends(segment: str) -> tuple[str, ...]:
    """The first and the last four words of a segment of six or more, as tokens; else nothing."""
    if segment.count(" ") < WORDS_WITH_ENDS - 1:
        return ()
    first, last = segment.split(" ", END_WORDS)[:-1], segment.rsplit(" ", END_WORDS)[1:]
    return ("^" + " ".join(first), "$" + " ".join(last))


def is_identity(segment: str) -> bool:
    """Whether a segment says who the model is: the head of a prompt."""
    return _IDENTITY.match(segment) is not None


HEAD_WEIGHT = 30.0
MAX_WEIGHT_CHARS = 80
_HEAD_WORDS = (3, 4, 5, 6, 8, 12)
HEAD, USER, KEY = "h ", "u ", "k "  # what tokens begin with; those of system messages begin with nothing


@dataclass(frozen=True, slots=True)
class Tokens:
    """A call in the alphabet.

    Attributes:
        head: the identity sentence, masked; empty where there is none.
        system, user: segments and their ends, in order, the head left out; `user` holds the tail too.
        keys: tools and format.
    """

    head: str
    system: tuple[str, ...]
    user: tuple[str, ...]
    keys: tuple[str, ...]


@lru_cache(CACHED_TEXTS)
def message_tokens(text: str, prefix: str) -> tuple[str, tuple[str, ...]]:
    """Cut one message into tokens.

    Args:
        prefix: `USER`, or nothing for a system message.

    Returns:
        (head or nothing, tokens in order).
    """
    head = ""
    tokens: list[str] = []
    for segment in segments(text):
        if not head and is_identity(segment):
            head = segment
            continue
        tokens.append(prefix + segment)
        tokens += [prefix + end for end in ends(segment)]
    return head, tuple(tokens)


def tokens_of(features: CallFeatures) -> Tokens:
    """Cut the texts of a call into tokens; the first head found is the call's."""
    read = zones(features)
    heads: list[str] = []
    system: list[str] = []
    user: list[str] = []
    for into, prefix, texts in ((system, "", read.system), (user, USER, (read.user, *read.tail))):
        for text in texts:
            head, tokens = message_tokens(text, prefix)
            heads.append(head)
            into += tokens
    head = next(filter(None, heads), "")
    keys = tuple([KEY + key for key in read.keys])
    return Tokens(head, tuple(system), tuple(user), keys)


def head_prefixes(head: str) -> tuple[str, ...]:
    """A head's first 3, 4, 5, 6, 8, 12 words and the whole of it, as tokens; shortest first."""
    if not head:
        return ()
    words = head.split(" ")
    cuts = [count for count in _HEAD_WORDS if count < len(words)]
    return tuple([HEAD + " ".join(words[:count]) for count in cuts] + [f"{HEAD}{head} ."])


def token_weight(token: str) -> float:
    """How much a token says: the root of its length, capped; a head says most."""
    return HEAD_WEIGHT if token.startswith(HEAD) else length_weight(token)


def length_weight(token: str) -> float:
    """The root of a token's length, capped."""
    return float(min(len(token), MAX_WEIGHT_CHARS) ** 0.5)


def rank_weight(rank: int) -> float:
    """What comes first in a prompt says more about the task than what comes last."""
    return float((1 + rank) ** -0.5)

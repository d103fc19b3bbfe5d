"""Samples that say the same again, found on the whole conversation, tools' results and answer included.

On the user's message alone an agent's turns would all be one. On the whole text, all calls of a task would be: most of
it is the template. So what most of a task's conversations have in common doesn't count for likeness; and two that ask
nearly the same but are answered differently are the most instructive pair there is: both stay.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import orjson
from datasketch import MinHash, MinHashLSH

from router.learning.curation.chat import ChatMessage
from router.learning.curation.drops import Drop

#: Jaccard similarity of two conversations' word triples, and of their answers', from which they are near duplicates.
NEAR = 0.9
_PERMUTATIONS = 128
#: To the index: what is found is compared once more, what is missed is gone.
_MISSING_COSTS = (0.05, 0.95)
_SHINGLE_WORDS = 3
#: Triples that more conversations than this share are the template's.
_COMMON_SHARE = 0.5
_TEMPLATE_SAMPLE = 500
#: Fewer triples of its own say too little about a conversation to call it like another one.
_MIN_OWN = 8
_WORD = re.compile(r"\w+|[^\w\s]")


def repeated(chats: Sequence[Sequence[ChatMessage]], near: float = NEAR) -> dict[int, Drop]:
    """Which of N conversations to leave out; of those that are alike the last one given stays.

    Takes about 1 ms per 1,000 words, and 1 KB of memory per conversation.

    Args:
        chats: N conversations, masked; the last message of each is its answer. Oldest first.
        near: in (0, 1].

    Returns:
        Place → `DUPLICATE`, `CONTRADICTED` or `NEAR_DUPLICATE`.
    """
    dropped = _exact(chats)
    places = [place for place in reversed(range(len(chats))) if place not in dropped]
    template = _template([chats[place] for place in places])
    index = MinHashLSH(threshold=near, num_perm=_PERMUTATIONS, weights=_MISSING_COSTS)
    kept: dict[int, _Sketch] = {}
    for place in places:
        own = _shingles(chats[place]) - template
        if len(own) < _MIN_OWN:
            continue
        sketch = _Sketch(_minhash(own), _shingles(chats[place][-1:]))
        alike = (kept[other] for other in index.query(sketch.whole))
        if any(sketch.is_near(other, near) for other in alike):
            dropped[place] = Drop.NEAR_DUPLICATE
        else:
            kept[place] = sketch
            index.insert(place, sketch.whole)
    return dropped


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A conversation as it is compared."""

    whole: MinHash
    answer: frozenset[int]

    def is_near(self, other: _Sketch, near: float) -> bool:
        either = len(self.answer | other.answer)
        answers = len(self.answer & other.answer) / either if either else 1.0
        return answers >= near and float(self.whole.jaccard(other.whole)) >= near


def _exact(chats: Sequence[Sequence[ChatMessage]]) -> dict[int, Drop]:
    """Repeated requests: of each one stays, the newest with the answer that it got most often."""
    by_request: dict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
    for place, chat in enumerate(chats):
        by_request[_digest(chat[:-1])].append((place, _digest(chat[-1:])))
    dropped: dict[int, Drop] = {}
    for group in by_request.values():
        counts = Counter(answer for _, answer in group)
        stays, said = max(group, key=lambda each: (counts[each[1]], each[0]))
        for place, answer in group:
            if place != stays:
                dropped[place] = Drop.DUPLICATE if answer == said else Drop.CONTRADICTED
    return dropped


def _template(chats: Sequence[Sequence[ChatMessage]]) -> frozenset[int]:
    """The triples that most conversations have."""
    sample = chats[:: max(1, len(chats) // _TEMPLATE_SAMPLE)]
    counts = Counter(shingle for chat in sample for shingle in _shingles(chat))
    least = max(1.0, _COMMON_SHARE * len(sample))
    return frozenset(shingle for shingle, count in counts.items() if count > least)


def _shingles(chat: Sequence[ChatMessage]) -> frozenset[int]:
    """Hashes of every three words in a row, marks counting as words."""
    words = [word.casefold() for message in chat for word in _WORD.findall(_text(message))]
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return frozenset(zlib.crc32(" ".join(words[at : at + _SHINGLE_WORDS]).encode()) for at in range(last))


def _text(message: ChatMessage) -> str:
    calls = (f"{call['function']['name']} {call['function']['arguments']}" for call in message.get("tool_calls", ()))
    return "\n".join([message["role"], message.get("content") or "", *calls])


def _minhash(shingles: frozenset[int]) -> MinHash:
    sketch = MinHash(_PERMUTATIONS, hashfunc=int)
    sketch.update_batch(shingles)
    return sketch


def _digest(chat: Sequence[ChatMessage]) -> bytes:
    return blake2b(orjson.dumps(chat, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

"""A new call → the task whose skeleton it has, or unknown. Signature and skeleton only: no embedding, no model.

Each learned *profile* (a variant of a task) is a set of weighted tokens. A call is scored against all of them at once:
for every message, one vector says how much of each profile it covers. What a call's system prompt has *beyond* a
profile counts against it, unless that profile's own calls carry as much: a longer, different prompt that happens to
quote a known one is another task.

Of the other messages only the tokens that some profile has can tell. Those are the template's, the same in every call,
so that a payload that was never seen is recognised by a look into a cache.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from router.features import CallFeatures
from router.segments import (
    HEAD,
    HEAD_WEIGHT,
    KEY,
    USER,
    head_prefixes,
    length_weight,
    message_tokens,
    rank_weight,
    segments,
    token_weight,
    zones,
)

ACCEPT = 0.6
SMOOTHING_SYSTEM, SMOOTHING_USER, SMOOTHING_KEYS = 10.0, 20.0, 40.0
KEYS_EXPONENT = 0.25
THIN_MASS = 12.0
THIN_SCORE = 0.75
THIN_KEYS = 0.9
LENGTH_ROOM = 1.5
MIN_LENGTH = 4
EVIDENCE = np.float32(1e-5)
MAX_PAYLOAD_CHARS = 4096
CACHED_MESSAGES = 1024
CACHED_RECOGNITIONS = 1024

Vector = NDArray[np.float32]


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """One variant of one task.

    Attributes:
        task: number of the task in its snapshot; -1 for calls that look alike and yet are no task.
        tokens: token → weight, in the order in which they come in the prompt.
        foreign: mass of unknown system text that its own calls carry (0.9 quantile).
        length: of its own calls' messages in tokens, system messages excepted (0.9 quantile).
        lines: the recurring segments, for people to read.
    """

    task: int
    tokens: dict[str, float]
    foreign: float
    length: float
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a call was recognised as.

    Attributes:
        task: number of the task, None when unknown.
        score: in [0, 1], of the best profile, accepted or not.
        variant: number of the profile; -1 when there is none.
        thin: the profile says too little by itself (a bare "You are a helpful assistant"): the payload must decide.
    """

    task: int | None
    score: float
    variant: int
    thin: bool = False


#: A message that is no system message: its identity sentence, and those of its tokens that some profile has, once each.
_Known = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One system message against all P profiles.

    Attributes:
        covered: (P,) mass of the profile's tokens that the message has.
        known: (P,) mass of the message's tokens that the profile has.
        mass: of all the message's tokens.
        head: identity sentence.
    """

    covered: Vector
    known: Vector
    mass: float
    head: str


class Profiles:
    """All profiles of a snapshot, ready to recognise. Immutable but for bounded caches."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.profiles = tuple(profiles)
        count = len(self.profiles)
        self._system, self._prompt, self._user, self._keys = (np.zeros(count, np.float32) for _ in range(4))
        foreign = np.array([profile.foreign for profile in self.profiles], np.float32)
        limit = np.array([LENGTH_ROOM * profile.length + MIN_LENGTH for profile in self.profiles])
        said = np.zeros(count, np.float32)
        found: dict[str, list[tuple[int, float]]] = {}
        for place, profile in enumerate(self.profiles):
            for token, weight in profile.tokens.items():
                found.setdefault(token, []).append((place, weight))
                zone = {USER: self._user, KEY: self._keys}.get(token[:2], self._system)
                zone[place] += weight
                if zone is self._system and not is_head(token):
                    self._prompt[place] += weight
                if zone is not self._keys:
                    said[place] += length_weight(token) if is_head(token) else weight
        self._index = {
            token: (np.array([p for p, _ in pairs], np.intp), np.array([w for _, w in pairs], np.float32))
            for token, pairs in found.items()
        }
        self._thin = said < THIN_MASS
        self._foreign = np.where(self._thin, np.float32(0), foreign)
        # What follows a thin skeleton tells by its mere size that it is something else. Few limits make few cases.
        self._limits = np.unique(limit[self._thin]).tolist()
        self._limit = np.where(self._thin, np.searchsorted(self._limits, limit), len(self._limits))
        # The less a skeleton says, the more its tools must.
        self._same_keys = np.select([said == 0, self._thin], [np.float32(1), np.float32(THIN_KEYS)], np.float32(0))
        self._cached_reading = lru_cache(CACHED_MESSAGES)(self._read)
        self._cached_known = lru_cache(CACHED_MESSAGES)(self._known)
        self._cached_recognition = lru_cache(CACHED_RECOGNITIONS)(self._recognise)

    def dump(self) -> bytes:
        """For the snapshot."""
        return msgspec.msgpack.encode(list(self.profiles))

    @classmethod
    def load(cls, data: bytes) -> Profiles:
        """Undo `dump`.

        Raises:
            msgspec.DecodeError: these are no profiles.
        """
        return cls(msgspec.msgpack.decode(data, type=list[Profile]))

    def recognise(self, features: CallFeatures) -> Recognition:
        """Find the profile that a call has: 5 µs for texts seen before, 100 µs with 2 KB of payload that weren't."""
        read = zones(features)
        others, length = [], 0
        for text in (read.user, *read.tail):
            known, tokens = self._cached_known(text)
            others.append(known)
            length += tokens
        limits_passed = bisect_left(self._limits, length)
        return self._cached_recognition(read.system, tuple(others), read.keys, limits_passed)

    def is_thin(self, profile: Profile) -> bool:
        """Whether a profile says too little by itself."""
        return bool(self._thin[self.profiles.index(profile)])

    def _recognise(
        self, prompts: tuple[str, ...], others: tuple[_Known, ...], keys: tuple[str, ...], limits_passed: int
    ) -> Recognition:
        if not self.profiles:
            return Recognition(None, 0.0, -1)
        system, known, mass = self._zero(), self._zero(), 0.0
        head = ""
        for text in prompts:
            reading = self._cached_reading(text)
            system, known, mass = system + reading.covered, known + reading.known, mass + reading.mass
            head = head or reading.head
        user = self._zero()
        for head_of_message, tokens in others:
            covered = self._zero()
            for token in tokens:
                self._add(covered, token)
            user += covered
            head = head or head_of_message
        prompt = system.copy()
        for prefix in head_prefixes(head):
            self._add(system, prefix)
        if head:
            known[system > prompt] += HEAD_WEIGHT
            mass += HEAD_WEIGHT
        excess = np.maximum(mass - known - self._foreign, 0)
        # The head weighs so much that the rest has to be covered for its own sake too.
        of_system = np.minimum(
            (system + SMOOTHING_SYSTEM) / (self._system + excess + SMOOTHING_SYSTEM),
            (prompt + SMOOTHING_SYSTEM) / (self._prompt + SMOOTHING_SYSTEM),
        )
        of_user = (np.minimum(user, self._user) + SMOOTHING_USER) / (self._user + SMOOTHING_USER)
        of_keys = self._of_keys(keys)
        score = np.minimum(of_system, of_user) * of_keys
        score[(of_keys < self._same_keys) | (self._limit < limits_passed)] = 0
        # A profile that asks for next to nothing is met by every call: it may only win where no other is met, and among
        # equals the one that explains more of the call.
        score = np.where(self._thin, np.minimum(score, THIN_SCORE), score) + EVIDENCE * (system + user)
        best = int(score.argmax())
        certainty = float(min(score[best], 1.0))
        task = self.profiles[best].task
        known_as = task if certainty >= ACCEPT and task >= 0 else None
        return Recognition(known_as, certainty, best, bool(self._thin[best]))

    def _of_keys(self, keys: tuple[str, ...]) -> Vector:
        """Smoothed weighted Jaccard of tools and format, softened."""
        shared, mass = self._zero(), 0.0
        for key in dict.fromkeys(keys):
            self._add(shared, KEY + key)
            mass += token_weight(KEY + key)
        union = self._keys + np.float32(mass) - shared
        return ((shared + SMOOTHING_KEYS) / (union + SMOOTHING_KEYS)) ** np.float32(KEYS_EXPONENT)

    def _read(self, text: str) -> _Reading:
        covered, known, mass = self._zero(), self._zero(), 0.0
        head, tokens = message_tokens(text, "")
        seen: set[str] = set()
        for rank, token in enumerate(tokens):
            weight = token_weight(token) * rank_weight(rank)
            mass += weight
            found = self._index.get(token)
            if found is not None:
                known[found[0]] += weight
                if token not in seen:
                    covered[found[0]] += found[1]
                    seen.add(token)
        return _Reading(covered, known, mass, head)

    def _known(self, text: str) -> tuple[_Known, int]:
        """What is known of a message that is no system message, and how many tokens it has."""
        head, tokens = message_tokens(text, USER)
        return (head, tuple(dict.fromkeys([token for token in tokens if token in self._index]))), len(tokens)

    def _add(self, into: Vector, token: str) -> None:
        found = self._index.get(token)
        if found is not None:
            into[found[0]] += found[1]

    def _zero(self) -> Vector:
        return np.zeros(len(self.profiles), np.float32)

    def payload(self, variant: int, features: CallFeatures) -> str:
        """What of the last messages is not in the skeleton, at most 4 KiB of it.

        Args:
            variant: as in `Recognition`; -1 takes the messages whole.
        """
        read = zones(features)
        known = self.profiles[variant].tokens if 0 <= variant < len(self.profiles) else {}
        texts = read.tail or (read.user,)
        rest = [s for text in texts for s in segments(text) if USER + s not in known]
        return "\n".join(rest)[-MAX_PAYLOAD_CHARS:]


def recognise(profiles: Profiles, features: CallFeatures) -> Recognition:
    """Recognise a call. See `Profiles.recognise`."""
    return profiles.recognise(features)


def payload_segments(profiles: Profiles, variant: int, features: CallFeatures) -> str:
    """The payload of a call. See `Profiles.payload`."""
    return profiles.payload(variant, features)


def is_head(token: str) -> bool:
    """Whether a token is a head's."""
    return token.startswith(HEAD)

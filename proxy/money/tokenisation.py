"""How the LLM counts a task's tokens: what it would have charged for calls that an SLM served.

An SLM's own counts say nothing of that: it has another tokeniser, another chat template and another prompt cache, and
it doesn't reason. So a call's texts are counted with o200k_base, and that is corrected by what the LLM reported for
the newest calls of the same task that it answered itself, for input and output apart, and by the share of their input
that it read from its cache. It is an estimate; where the log has no such calls (or keeps no bodies), o200k_base's count
stands, and nothing counts as cached.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from proxy.money.tokens import TokenCounter
from proxy.wire.answer import read_answer
from proxy.wire.usage import Usage
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import StorageError
from storage.repositories.calls import StoredCall, reported_calls

SAMPLED_CALLS = 50
ENOUGH_CALLS = 10
#: For how long a task's tokenisation is believed: once it was learned from enough calls, and before.
KEPT_SECONDS = 3600.0
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Tokenisation:
    """What is known of one task.

    Attributes:
        input_ratio, output_ratio: tokens that the LLM reported (its reasoning included), over those that were counted.
        cached_share: of the input, read from the LLM's prompt cache, in [0, 1].
        calls: from how many this is known.
    """

    input_ratio: float = 1.0
    output_ratio: float = 1.0
    cached_share: float = 0.0
    calls: int = 0

    def correct(self, counted: Usage) -> Usage:
        """What the LLM would have reported."""
        input_tokens = round((counted.input_tokens or 0) * self.input_ratio)
        return Usage(
            input_tokens=input_tokens,
            cached_input_tokens=round(input_tokens * self.cached_share),
            output_tokens=round((counted.output_tokens or 0) * self.output_ratio),
        )


#: Of a task that nothing is known of.
UNKNOWN = Tokenisation()


class LoggedTokenisation:
    """Learns each task's from the log, at most once an hour: some tens of bodies are read for it."""

    def __init__(
        self, database: Database, cipher: Cipher, counter: TokenCounter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._counter = counter
        self._clock = clock
        self._known: dict[str, tuple[float, Tokenisation]] = {}

    def __call__(self, cluster_id: str | None) -> Tokenisation:
        """A task's tokenisation; the last that was known while the database is away."""
        if cluster_id is None:
            return UNKNOWN
        until, known = self._known.get(cluster_id, (0.0, UNKNOWN))
        now = self._clock()
        if now >= until:
            try:
                known = self._learn(cluster_id)
            except StorageError:
                return known
            kept = KEPT_SECONDS if known.calls >= ENOUGH_CALLS else RETRY_SECONDS
            self._known[cluster_id] = (now + kept, known)
        return known

    def _learn(self, cluster_id: str) -> Tokenisation:
        with self._database.read() as session:
            calls = reported_calls(session, self._cipher, cluster_id, SAMPLED_CALLS)
        pairs = [(stored, counted) for stored in calls if (counted := self._count(stored)) is not None]
        reported_input = sum(stored.row.input_tokens or 0 for stored, _ in pairs)
        counted_input = sum(counted.input_tokens or 0 for _, counted in pairs)
        reported_output = sum(stored.row.output_tokens or 0 for stored, _ in pairs)
        counted_output = sum(counted.output_tokens or 0 for _, counted in pairs)
        cached = sum(stored.row.cached_input_tokens or 0 for stored, _ in pairs)
        return Tokenisation(
            input_ratio=reported_input / counted_input if reported_input and counted_input else 1.0,
            output_ratio=reported_output / counted_output if reported_output and counted_output else 1.0,
            cached_share=min(cached / reported_input, 1.0) if reported_input else 0.0,
            calls=len(pairs),
        )

    def _count(self, stored: StoredCall) -> Usage | None:
        row = stored.row
        if stored.request_body is None or stored.response_body is None:
            return None
        answer = read_answer(
            row.endpoint, stored.response_body, row.response_content_type, row.response_content_encoding
        )
        try:
            request = orjson.loads(stored.request_body)
        except orjson.JSONDecodeError:
            return None
        return self._counter.count(row.endpoint, request, answer) if answer and isinstance(request, dict) else None

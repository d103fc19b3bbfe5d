"""The log as a report reads it: a few numbers a call, and how often the LLM agrees with itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import numpy as np
import orjson
from numpy.typing import NDArray

from proxy.learning.teacher import logged_call
from router.certificate import SelfAgreement
from router.contract import Answer, OutputContract
from router.features import CallFeatures
from router.learning.conversations import conversation_of
from router.learning.proof.agreement import Comparator, Label, comparator_for
from router.learning.proof.ceiling import self_agreement
from router.policy import never_diverted
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.models import Call
from storage.repositories.calls import StoredCall, endpoints_in_log, iter_calls

#: Fields that change who is billed or how the answer is sent, not what the model is asked.
_SAME_QUESTION = frozenset({
    "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "service_tier", "store",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """N calls of a log, in the order of their arrival.

    Attributes:
        tasks: (N,) index of the call's task in the list that was given, -1 for none.
        conversations: (N,) in [0, number of conversations).
        tokens: (N,) input and output together, 0 where nothing is known.
        cost_usd: (N,) what the LLM asked for the call, or would have asked for one that an SLM served; NaN where the
            model has no known price.
        may_divert: (N,) whether an SLM could be asked at all.
        repeated: (N,) whether the very same was asked before.
        by_slm: (N,) whether an SLM served it.
        agreement: of the LLM with itself by index of the task, where requests were repeated. Of tasks in free text,
            word for word.
        unreadable: calls without a body that can be read; they count as not replaceable.
        sources: where the calls came from, `proxy` or `import:<format>`, with their numbers.
        since, until: when the first and the last call arrived; None for an empty log.
    """

    tasks: NDArray[np.int64]
    conversations: NDArray[np.int64]
    tokens: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    may_divert: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
    by_slm: NDArray[np.bool_]
    agreement: dict[int, SelfAgreement]
    unreadable: int
    sources: Counter[str]
    since: datetime | None
    until: datetime | None


def read_log(
    session: ReadSession, cipher: Cipher, contracts: Mapping[str, OutputContract], progress: Callable[[str], None]
) -> Reading:
    """Read every call of the log once.

    Args:
        contracts: by id of the tasks in force; their order is that of the tasks' indices.
        progress: told `stage: how far`.

    Raises:
        Undecipherable: the log is of another key.
        DatabaseDown: it can't be read.
    """
    reader = _Reader(contracts)
    endpoints = endpoints_in_log(session)
    for number, stored in enumerate(iter_calls(session, cipher, endpoints=endpoints, on_damaged=reader.skip), 1):
        reader.take(stored)
        if number % 1000 == 0:
            progress(f"reading the log: {number} calls")
    return reader.reading()


class _Reader:
    """Takes calls one after the other."""

    def __init__(self, contracts: Mapping[str, OutputContract]) -> None:
        self._tasks = {cluster_id: number for number, cluster_id in enumerate(contracts)}
        self._repeats = [_Repeats(comparator_for(contract, Label())) for contract in contracts.values()]
        self._conversations: dict[str, int] = {}
        self._asked: set[bytes] = set()
        self._rows: list[tuple[int, int, float, float, bool, bool, bool]] = []
        self._unreadable = 0
        self._sources: Counter[str] = Counter()
        self._since: datetime | None = None
        self._until: datetime | None = None

    def take(self, stored: StoredCall) -> None:
        """One call with its bodies."""
        row = stored.row
        call = logged_call(stored)
        if call is None:
            self.skip(row)
            return
        conversation, question = conversation_of(call.features), _question(call.features)
        task = self._task(row)
        if task >= 0 and call.answer is not None:
            self._repeats[task].take(conversation, question, call.answer)
        may_divert = never_diverted(call.features) is None
        self._add(row, task, conversation, may_divert=may_divert, repeated=question in self._asked)
        self._asked.add(question)

    def skip(self, row: Call) -> None:
        """One call whose bodies say nothing: not kept, damaged, or of an endpoint that has no tasks."""
        self._unreadable += row.endpoint in ("chat", "responses")
        self._add(row, self._task(row), row.call_id.hex(), may_divert=False, repeated=False)

    def _task(self, row: Call) -> int:
        return self._tasks.get(row.cluster_id or "", -1)

    def _add(self, row: Call, task: int, conversation: str, *, may_divert: bool, repeated: bool) -> None:
        number = self._conversations.setdefault(conversation, len(self._conversations))
        usd = row.counterfactual_usd if row.served_by == "slm" else row.cost_usd
        tokens = (row.input_tokens or 0) + (row.output_tokens or 0)
        cost = math.nan if usd is None else usd
        self._rows.append((task, number, tokens, cost, may_divert, repeated, row.served_by == "slm"))
        self._sources[row.source or "proxy"] += 1
        self._since = row.arrived_at if self._since is None else min(self._since, row.arrived_at)
        self._until = row.arrived_at if self._until is None else max(self._until, row.arrived_at)

    def reading(self) -> Reading:
        """What was taken."""
        columns = list(zip(*self._rows, strict=True)) or [()] * 7
        agreement = {number: repeats.agreement() for number, repeats in enumerate(self._repeats)}
        return Reading(
            tasks=np.array(columns[0], dtype=np.int64),
            conversations=np.array(columns[1], dtype=np.int64),
            tokens=np.array(columns[2], dtype=np.float64),
            cost_usd=np.array(columns[3], dtype=np.float64),
            may_divert=np.array(columns[4], dtype=np.bool_),
            repeated=np.array(columns[5], dtype=np.bool_),
            by_slm=np.array(columns[6], dtype=np.bool_),
            agreement={number: found for number, found in agreement.items() if found.pairs},
            unreadable=self._unreadable,
            sources=self._sources,
            since=self._since,
            until=self._until,
        )


class _Repeats:
    """The LLM's first two answers to a repeated question of a task, one question of each conversation."""

    def __init__(self, comparator: Comparator) -> None:
        self._comparator = comparator
        self._first: dict[bytes, Answer] = {}
        self._pairs: dict[str, tuple[Answer, Answer]] = {}

    def take(self, conversation: str, question: bytes, answer: Answer) -> None:
        """One whole answer of the LLM."""
        first = self._first.setdefault(question, answer)
        if first is not answer:
            self._pairs.setdefault(conversation, (first, answer))

    def agreement(self) -> SelfAgreement:
        """How often the two agree."""
        return self_agreement(self._pairs.values(), self._comparator)


def _question(features: CallFeatures) -> bytes:
    """A hash of all that the model is asked, its name and sampling parameters included."""
    asked = {name: value for name, value in features.body.items() if name not in _SAME_QUESTION}
    return blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

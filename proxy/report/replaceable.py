"""From a reading of the log to shares with intervals, and to where each task stands. The package says what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from proxy.money.economics import Economics
from proxy.report.reading import Reading
from router.certificate import Certificate
from router.contract import ContractKind
from router.learning.proof.bounds import interval, lower_bound
from router.learning.proof.shares import Share, share
from router.learning.proof.standard import Standard

#: Of the intervals that the report gives; each holds for itself.
INTERVAL_DELTA = 0.05


class Standing(StrEnum):
    """Where a task stands, or calls in none: the parts that make up the whole log, in the report's order."""

    PROVED = "proved"
    """A certificate in force covers it."""
    REPLACEABLE = "replaceable"
    """Recurs often enough to be proved, and a machine can check its answers."""
    FREE_TEXT = "free text"
    """Recurs often enough, but whether two answers are the same has to be judged."""
    UNSTEADY = "unsteady"
    """The LLM contradicts itself more often than the risk allows."""
    RARE = "rare"
    """Recurs in fewer conversations than a proof takes."""
    HELD = "held"
    """Of a task, but no SLM may be asked: provider state, built-in tools, a tool loop of the LLM, unreadable."""
    NO_TASK = "no task"
    """Nothing like it recurs."""


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task as it is known apart from its calls.

    Attributes:
        certificate: the newest that holds today; None where nothing is proved.
        stage: of the promotion in force.
        model: that is certified, or promoted.
        economics: whether training pays; None where nothing was said of what serving and training cost.
    """

    cluster_id: str
    label: str
    kind: ContractKind
    certificate: Certificate | None = None
    stage: str | None = None
    model: str | None = None
    economics: Economics | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """Parts of the whole log, each with its interval; no cost where no call's is known."""

    calls: Share
    tokens: Share
    cost: Share | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the LLM with itself, on requests that were asked twice.

    Attributes:
        pairs: requests, one of each conversation.
        share: on which both answers agree.
    """

    pairs: int
    share: Share


@dataclass(frozen=True, slots=True)
class TaskReport:
    """A task's part of the log.

    Attributes:
        calls: all of its calls; `may_divert` of them an SLM could be asked at all.
        conversations: of the calls that may be diverted.
        served: calls that an SLM has served.
        repeated: calls that may be diverted whose very request was made before.
        cost_usd: of the calls whose cost is known; None where no call's is.
        part: of the log, the calls that may be diverted.
        self_agreement: None where no request was asked twice.
    """

    known: KnownTask
    standing: Standing
    calls: int
    may_divert: int
    conversations: int
    served: int
    repeated: int
    cost_usd: float | None
    part: Measures
    self_agreement: Agreement | None


@dataclass(frozen=True, slots=True)
class Part:
    """Calls of one standing, as parts of the whole log in [0, 1]; no cost where no call's is known."""

    standing: Standing
    calls: float
    tokens: float
    cost: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What of a log is replaceable.

    Attributes:
        calls, conversations, tokens, cost_usd: the whole log; cost of the calls whose cost is known.
        unpriced, unreadable: calls without a known price; without a body that says something.
        needed: conversations that a proof takes when nothing fails.
        replaceable: proved or provable, in closed form.
        free_text: the same in free text.
        parts: in the order of `Standing`; they add up to 1.
        tasks: largest first by the calls that may be diverted.
    """

    calls: int
    conversations: int
    tokens: int
    cost_usd: float | None
    unpriced: int
    unreadable: int
    served: int
    since: datetime | None
    until: datetime | None
    sources: Mapping[str, int]
    risk: float
    confidence: float
    needed: int
    replaceable: Measures
    free_text: Measures
    parts: Sequence[Part]
    tasks: Sequence[TaskReport]


def report(reading: Reading, known: Sequence[KnownTask], risk: float, confidence: float) -> Report:
    """Work a reading out.

    Args:
        known: the tasks that the reading's indices mean.
        risk, confidence: what has to be proved, both in (0, 1).
    """
    needed = Standard(risk, round(1 - confidence, 12)).needed(0)
    assert needed is not None  # without a judge's error some number always does
    whole = _Whole(reading)
    tasks, standings = [], np.full(len(reading.tasks), _ORDER[Standing.NO_TASK])
    covered = np.zeros(len(reading.tasks))
    for number, task in enumerate(known):
        own = reading.tasks == number
        open_calls = own & reading.may_divert
        found = _task(reading, task, number, own, open_calls, whole, needed, risk)
        tasks.append(found)
        standings[own] = _ORDER[Standing.HELD]
        standings[open_calls] = _ORDER[found.standing]
        if found.standing is Standing.PROVED and task.certificate is not None:
            covered[open_calls] = task.certificate.coverage
    closed = np.isin(standings, [_ORDER[Standing.PROVED], _ORDER[Standing.REPLACEABLE]])
    known_cost = whole.cost_usd[whole.is_priced]
    return Report(
        calls=len(reading.tasks),
        conversations=whole.conversations,
        tokens=int(reading.tokens.sum()),
        cost_usd=float(known_cost.sum()) if len(known_cost) else None,
        unpriced=int(((reading.tokens > 0) & ~whole.is_priced).sum()),
        unreadable=reading.unreadable,
        served=int(reading.by_slm.sum()),
        since=reading.since,
        until=reading.until,
        sources=dict(reading.sources.most_common()),
        risk=risk,
        confidence=confidence,
        needed=needed,
        replaceable=whole.measures(closed),
        free_text=whole.measures(standings == _ORDER[Standing.FREE_TEXT]),
        parts=_parts(whole, standings, covered),
        tasks=sorted(tasks, key=lambda task: (-task.may_divert, -task.calls, task.known.cluster_id)),
    )


_ORDER = {standing: place for place, standing in enumerate(Standing)}


class _Whole:
    """Sums by conversation over the whole log, for shares and their intervals."""

    def __init__(self, reading: Reading) -> None:
        self._of = reading.conversations
        self.conversations = int(reading.conversations.max()) + 1 if len(reading.conversations) else 0
        self.is_priced = ~np.isnan(reading.cost_usd)
        self.tokens = reading.tokens
        self.cost_usd = np.where(self.is_priced, reading.cost_usd, 0.0)

    def measures(self, chosen: NDArray[np.bool_]) -> Measures:
        """The parts that some calls have; (N,)."""
        return Measures(
            calls=self._share(chosen, np.ones(len(chosen))),
            tokens=self._share(chosen, self.tokens),
            cost=self._share(chosen, self.cost_usd) if self.cost_usd.any() else None,
        )

    def _share(self, chosen: NDArray[np.bool_], weights: NDArray[np.float64]) -> Share:
        wholes = np.bincount(self._of, weights, self.conversations).astype(np.float64)
        parts = np.bincount(self._of, weights * chosen, self.conversations).astype(np.float64)
        counting = wholes > 0
        return share(parts[counting], wholes[counting], INTERVAL_DELTA)


def _task(
    reading: Reading,
    task: KnownTask,
    number: int,
    own: NDArray[np.bool_],
    open_calls: NDArray[np.bool_],
    whole: _Whole,
    needed: int,
    risk: float,
) -> TaskReport:
    conversations = len(np.unique(reading.conversations[open_calls]))
    priced = own & whole.is_priced
    repeats = reading.agreement.get(number)
    agreement, contradicts = None, False
    if repeats is not None:
        agree, pairs = repeats.pairs - repeats.disagreements, repeats.pairs
        agreement = Agreement(pairs, Share(agree / pairs, *interval(agree, pairs, INTERVAL_DELTA)))
        contradicts = float(lower_bound(repeats.disagreements, pairs, INTERVAL_DELTA)) > risk
    return TaskReport(
        known=task,
        standing=_standing(task, conversations >= needed, contradicts),
        calls=int(own.sum()),
        may_divert=int(open_calls.sum()),
        conversations=conversations,
        served=int((own & reading.by_slm).sum()),
        repeated=int((open_calls & reading.repeated).sum()),
        cost_usd=float(reading.cost_usd[priced].sum()) if priced.any() else None,
        part=whole.measures(open_calls),
        self_agreement=agreement,
    )


def _standing(task: KnownTask, is_frequent: bool, contradicts: bool) -> Standing:
    if task.certificate is not None:
        return Standing.PROVED
    if not is_frequent:
        return Standing.RARE
    if task.kind is ContractKind.TEXT:
        return Standing.FREE_TEXT
    return Standing.UNSTEADY if contradicts else Standing.REPLACEABLE


def _parts(whole: _Whole, standings: NDArray[np.int64], covered: NDArray[np.float64]) -> list[Part]:
    """What each standing makes of the log. Of a proved task only what its certificate covers counts as proved."""
    places = len(_ORDER)

    def sums(weights: NDArray[np.float64]) -> list[float]:
        by_standing = np.bincount(standings, weights, places)
        proved = float((weights * covered).sum())
        by_standing[_ORDER[Standing.REPLACEABLE]] += by_standing[_ORDER[Standing.PROVED]] - proved
        by_standing[_ORDER[Standing.PROVED]] = proved
        total = float(weights.sum())
        return [float(part) / total if total else 0.0 for part in by_standing]

    calls, tokens, cost = sums(np.ones(len(standings))), sums(whole.tokens), sums(whole.cost_usd)
    has_cost = bool(whole.cost_usd.any())
    return [
        Part(standing, calls[place], tokens[place], cost[place] if has_cost else None)
        for standing, place in _ORDER.items()
    ]

"""The learning run: from logged calls to a snapshot.

templates (skeletons.py) → tasks that share one (payloads.py) → the form of their answers (contracts.py)
    → names (labels.py) → old or new? (identity.py) → a snapshot
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import ContractKind, OutputContract
from router.encoder import Encoder, StaticEncoder
from router.features import CallFeatures
from router.learning.contracts import induce
from router.learning.conversations import conversations_of
from router.learning.corpus import LoggedCall
from router.learning.identity import keep_identities
from router.learning.labels import distinct, label
from router.learning.payloads import Payloads, fit_payloads, split
from router.learning.skeletons import Skeletons, learn_skeletons
from router.payload import PayloadModel
from router.recognition import payload_segments
from router.snapshot import Cluster, Snapshot

#: Answers that a contract is induced from, the newest.
MAX_ANSWERS = 5000
#: Payloads per skeleton that are embedded: at 7 to 17 ms each, the most expensive part of a run with many skeletons.
MAX_PAYLOADS = 256
#: The same where a skeleton may be several tasks.
MAX_SPLIT_PAYLOADS = 1500
EXAMPLES = 5
SKELETON_LINES = 40

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Discovery:
    """What a learning run found.

    Attributes:
        snapshot: fit to be put in force.
        assignments: (N,) cluster id of each call; None for those of no task.
    """

    snapshot: Snapshot
    assignments: list[str | None]


def discover(
    calls: Sequence[LoggedCall],
    previous: Snapshot | None = None,
    *,
    static: StaticEncoder | None = None,
    encoder: Encoder | None = None,
    report: Report = lambda stage, share: None,
) -> Discovery:
    """Find the recurring tasks in N logged calls.

    Args:
        calls: in any order; learned from in that of their arrival.
        previous: the snapshot in force; tasks that it knows keep their ids.
        static: the static encoder, as `distillation.distill` makes it or the previous snapshot carries it; None: no
            payload level is learned, so nothing is checked but the template, and no skeleton is split.
        encoder: the transformer that it was distilled from; None: the static one decides alone.
        report: told each stage's name and its share done, in [0, 1].
    """
    order = sorted(range(len(calls)), key=lambda place: (calls[place].arrived_at, calls[place].call_id))
    calls = [calls[place] for place in order]
    features = [call.features for call in calls]
    conversations = conversations_of(features)
    report("skeletons", 0.0)
    payloads = _Payloads(learn_skeletons(features, conversations), calls, conversations, static, encoder)
    skeletons, cluster, task_of, models = payloads.learn(lambda share: report("payloads", share))
    thin = skeletons.thin()

    members: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(cluster.tolist()):
        if number >= 0:
            members[number].append(place)
    contracts: list[OutputContract] = []
    for number in range(len(task_of)):
        report("contracts", number / len(task_of))
        contracts.append(_contract([calls[i] for i in members[number]], [conversations[i] for i in members[number]]))

    report("names", 0.0)
    lines = [_lines(skeletons, features, members[number]) for number in range(len(task_of))]
    labels = distinct([label(text, contract) for text, contract in zip(lines, contracts, strict=True)], lines)
    seeds = ["\n".join([*text, *contract.labels]) for text, contract in zip(lines, contracts, strict=True)]
    report("identities", 0.0)
    ids, lineage = keep_identities(cluster, _known_as(previous, features), seeds)

    clusters = [
        Cluster(
            cluster_id=ids[number],
            label=labels[number],
            contract=contracts[number],
            task=task,
            skeleton="\n".join(lines[number][:SKELETON_LINES]),
            thin=thin[task],
            calls=len(members[number]),
            conversations=len({conversations[i] for i in members[number]}),
            share=len(members[number]) / len(calls),
            variants=sum(profile.task == task for profile in skeletons.profiles.profiles),
            examples=_examples(calls, conversations, members[number]),
            models=tuple(name for name, _ in Counter(calls[i].model for i in members[number]).most_common(5) if name),
        )
        for number, task in enumerate(task_of)
    ]
    tasks: list[list[str]] = [[] for _ in range(max(task_of, default=-1) + 1)]
    for number, task in enumerate(task_of):
        tasks[task].append(ids[number])
    snapshot = Snapshot(
        profiles=skeletons.profiles,
        clusters={each.cluster_id: each for each in sorted(clusters, key=lambda each: (-each.calls, each.cluster_id))},
        tasks=tuple(map(tuple, tasks)),
        created_at=datetime.now(UTC),
        calls=len(calls),
        payloads={task: model.named(tuple(tasks[task])) for task, model in models.items()},
        static=static if models else None,
        encoder=encoder.name if models and encoder else None,
        lineage=lineage,
    )
    assignments: list[str | None] = [None] * len(calls)
    for place, number in zip(order, cluster.tolist(), strict=True):
        assignments[place] = ids[number] if number >= 0 else None
    return Discovery(snapshot, assignments)


class _Tasks(NamedTuple):
    """The tasks of N calls, once payloads have been read too.

    Attributes:
        skeletons: without those that turned out to be no task.
        cluster: (N,) cluster of each call in [0, C); -1 for none.
        task_of: of each of the C clusters, the task (skeleton) that it is on.
        models: by task; their clusters are still numbered.
    """

    skeletons: Skeletons
    cluster: NDArray[np.int64]
    task_of: list[int]
    models: dict[int, PayloadModel]


class _Payloads:
    """The payload level of a run: which skeletons are several tasks, which are none, and a model for each."""

    def __init__(
        self,
        skeletons: Skeletons,
        calls: Sequence[LoggedCall],
        conversations: Sequence[str],
        static: StaticEncoder | None,
        encoder: Encoder | None,
    ) -> None:
        self._skeletons = skeletons
        self._calls = calls
        self._conversations = conversations
        self._static = static
        self._encoder = encoder

    def learn(self, report: Callable[[float], None]) -> _Tasks:
        """Split, sort out and fit."""
        found, thin, bare = self._skeletons.assignments, self._skeletons.thin(), self._skeletons.bare()
        cluster = np.full(len(found), -1, dtype=np.int64)
        task_of: list[int] = []
        models: dict[int, PayloadModel] = {}
        none: set[int] = set()
        for task in range(len(thin)):
            report(task / len(thin))
            rows = np.flatnonzero(found == task)
            parts, model = self._learn_task(rows, thin[task], task in bare)
            if (parts < 0).all():
                none.add(task)
                continue
            number = task - len(none)
            cluster[rows] = np.where(parts < 0, -1, parts + len(task_of))
            if model is not None:
                models[number] = model
            task_of += [number] * (int(parts.max()) + 1)
        return _Tasks(self._skeletons.without(none), cluster, task_of, models)

    def _learn_task(
        self, rows: NDArray[np.int64], thin: bool, bare: bool
    ) -> tuple[NDArray[np.int64], PayloadModel | None]:
        """The part of each of a task's calls (all 0 unless it is split, -1 for no task), and its payload level."""
        one, none = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), -1, dtype=np.int64)
        if self._static is None:
            return one, None
        sample = self._spread(rows, MAX_SPLIT_PAYLOADS if thin else MAX_PAYLOADS)
        texts = [self._payload(row) for row in sample.tolist()]
        groups = [self._conversations[row] for row in sample.tolist()]
        parts = np.zeros(len(sample), dtype=np.int64)
        if thin and self._encoder is not None:
            parts = split(self._encoder.encode(texts), groups)
            if (parts < 0).any() and (not bare or ((parts < 0).all() and self._is_narrow(sample))):
                parts = np.zeros(len(sample), dtype=np.int64)
        if (parts < 0).all():
            return none, None
        count, used = int(parts.max()) + 1, np.flatnonzero(parts >= 0)
        payloads = Payloads([texts[i] for i in used], parts[used], [groups[i] for i in used])
        model = fit_payloads([str(part) for part in range(count)], payloads, self._static, self._encoder)
        if len(used) == len(sample) and (model is None or count == 1):
            return one, model
        if model is None:
            return none, None
        static = self._static.encode([self._payload(row) for row in rows.tolist()])
        verdicts = [model.glance(row[None]) for row in static]
        all_parts = np.array([-1 if each.fits is False else int(each.cluster_id) for each in verdicts], np.int64)
        all_parts[np.searchsorted(rows, sample)] = parts
        return all_parts, model

    def _is_narrow(self, rows: NDArray[np.int64]) -> bool:
        """Whether the answers have a form that tells the task where nothing else does."""
        contract = _contract([self._calls[i] for i in rows.tolist()], [self._conversations[i] for i in rows.tolist()])
        return contract.kind is not ContractKind.TEXT

    def _payload(self, row: int) -> str:
        profiles, features = self._skeletons.profiles, self._calls[row].features
        return payload_segments(profiles, profiles.recognise(features).variant, features)

    def _spread(self, rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        """At most `limit` of the rows, of as many conversations as there are."""
        turn: Counter[str] = Counter()
        ranked: list[tuple[int, int]] = []
        for row in np.random.default_rng(0).permutation(rows).tolist():
            ranked.append((turn[self._conversations[row]], row))
            turn[self._conversations[row]] += 1
        ranked.sort(key=lambda each: each[0])
        return np.sort(np.array([row for _, row in ranked[:limit]], dtype=np.int64))


def _contract(calls: Sequence[LoggedCall], conversations: Sequence[str]) -> OutputContract:
    answered = [(call, name) for call, name in zip(calls, conversations, strict=True) if call.answer][-MAX_ANSWERS:]
    return induce(
        [call.features for call, _ in answered],
        [call.answer for call, _ in answered if call.answer],
        [name for _, name in answered],
    )


def _lines(skeletons: Skeletons, features: Sequence[CallFeatures], members: Sequence[int]) -> list[str]:
    """The recurring lines of the variant that most of a cluster's calls have."""
    variants = Counter(skeletons.profiles.recognise(features[place]).variant for place in members[:200])
    best = max((variant for variant in variants if variant >= 0), key=lambda variant: variants[variant], default=None)
    return [] if best is None else list(skeletons.profiles.profiles[best].lines)


def _examples(calls: Sequence[LoggedCall], conversations: Sequence[str], members: Sequence[int]) -> tuple[str, ...]:
    """The newest calls of distinct conversations."""
    newest = {conversations[place]: calls[place].call_id for place in members}
    return tuple(reversed(list(newest.values())[-EXAMPLES:]))


def _known_as(previous: Snapshot | None, features: Sequence[CallFeatures]) -> list[str | None]:
    """What the snapshot in force takes each call for; where the payload decides, as its static encoder does."""
    if previous is None:
        return [None] * len(features)
    known: list[str | None] = []
    for call in features:
        recognition = previous.profiles.recognise(call)
        known.append(None if recognition.task is None else _known_by_payload(previous, recognition.task, call))
    return known


def _known_by_payload(previous: Snapshot, task: int, call: CallFeatures) -> str:
    ids, model = previous.tasks[task], previous.payloads.get(task)
    if len(ids) == 1 or model is None or previous.static is None:
        return ids[0]
    text = payload_segments(previous.profiles, previous.profiles.recognise(call).variant, call)
    return model.glance(previous.static.encode([text])).cluster_id

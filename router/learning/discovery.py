"""The learning run: from logged calls to a snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from router.contract import Answer
from router.features import CallFeatures
from router.learning.contracts import induce
from router.learning.conversations import conversations_of
from router.learning.identity import keep_identities
from router.learning.labels import distinct, label
from router.learning.skeletons import learn_skeletons
from router.recognition import Profile
from router.snapshot import Cluster, Snapshot

MAX_ANSWERS = 5000
EXAMPLES = 5
SKELETON_LINES = 40


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call as learning sees it.

    Attributes:
        answer: the LLM's; None for calls that an SLM served or that have no whole answer. They are assigned to
            tasks all the same.
    """

    call_id: str
    features: CallFeatures
    answer: Answer | None


def discover(
    calls: Sequence[LoggedCall],
    previous: Snapshot | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Snapshot:
    """Find the recurring tasks in N logged calls.

    Args:
        previous: the snapshot in force; tasks that it knows keep their ids.
        progress: told the name of each stage as it begins.
    """
    features = [call.features for call in calls]
    progress("skeletons")
    conversations = conversations_of(features)
    skeletons = learn_skeletons(features, conversations)
    members: dict[int, list[int]] = defaultdict(list)
    for place, task in enumerate(skeletons.assignments.tolist()):
        if task >= 0:
            members[task].append(place)
    profiles: dict[int, list[Profile]] = defaultdict(list)
    for profile in skeletons.profiles.profiles:
        profiles[profile.task].append(profile)

    progress("contracts")
    contracts, lines = [], []
    for task in range(len(members)):
        answered = [i for i in members[task] if calls[i].answer is not None][:MAX_ANSWERS]
        answers = [answer for i in answered if (answer := calls[i].answer) is not None]
        contracts.append(induce([features[i] for i in answered], answers))
        fullest = max(profiles[task], key=lambda profile: len(profile.lines), default=None)
        lines.append(fullest.lines if fullest else [])
    labels = distinct([label(text, contract) for text, contract in zip(lines, contracts, strict=True)])

    progress("identities")
    ids = keep_identities(skeletons.assignments, _previous_ids(previous, features), ["\n".join(text) for text in lines])
    clusters = {
        ids[task]: Cluster(
            cluster_id=ids[task],
            label=labels[task],
            contract=contracts[task],
            task=task,
            skeleton="\n".join(lines[task][:SKELETON_LINES]),
            thin=all(skeletons.profiles.is_thin(profile) for profile in profiles[task]),
            calls=len(members[task]),
            conversations=len({conversations[i] for i in members[task]}),
            share=len(members[task]) / len(calls),
            variants=len(profiles[task]),
            examples=tuple(calls[i].call_id for i in members[task][:EXAMPLES]),
        )
        for task in range(len(members))
    }
    return Snapshot(
        profiles=skeletons.profiles,
        clusters=clusters,
        tasks=tuple((ids[task],) for task in range(len(members))),
        created_at=datetime.now(UTC),
        calls=len(calls),
    )


def _previous_ids(previous: Snapshot | None, features: Sequence[CallFeatures]) -> list[str | None]:
    """What the snapshot in force takes each call for."""
    if previous is None:
        return [None] * len(features)
    found = [previous.profiles.recognise(call).task for call in features]
    return [None if task is None else previous.tasks[task][0] for task in found]

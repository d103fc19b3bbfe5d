"""Which logged calls an SLM is put to the proof on: those that had no part in its training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import orjson

from proxy.learning.candidates import candidates_of, rules_of
from router.features import CallFeatures
from router.learning.curation.division import Assigned, divide
from router.learning.curation.samples import HeldOut
from router.learning.curation.splits import Split
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.repositories.calls import reported_models

#: Of each split; the newest are taken. Twenty times what a certificate needs.
MOST_CONVERSATIONS = 1500
#: What does not change what is asked.
_UNASKED = frozenset({
    "stream", "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeldOutCalls:
    """A task's calls as the proof needs them, oldest first. All were answered by the LLM of today.

    Attributes:
        calibration, certification: each of other conversations, and of none that trained.
        repeated: answers to requests that were made more than once, oldest first; one request of each conversation.
    """

    calibration: Sequence[Assigned]
    certification: Sequence[Assigned]
    repeated: Sequence[Sequence[Assigned]]


def held_out_calls(
    session: ReadSession,
    cipher: Cipher,
    cluster_id: str,
    kept: tuple[Sequence[HeldOut], Sequence[HeldOut]] | None,
    since: datetime | None,
    progress: Callable[[str], None],
) -> HeldOutCalls:
    """Read a task's calls.

    Args:
        kept: calibration and certification calls of the dataset that the SLM was trained on. None where it was trained
            elsewhere: then the split is the one that `understudy export` makes, whose samples it may have been
            trained on.
        since: earlier calls prove nothing any more.
        progress: told `stage: how far`.
    """
    teachers = set(reported_models(session, cluster_id))
    divided = divide(candidates_of(session, cipher, cluster_id, progress), rules_of(session, cluster_id)).calls
    calls = [each for each in divided if each.candidate.teacher in teachers or each.candidate.teacher is None]
    if kept is None:
        sides = [[each for each in calls if each.side is side] for side in (Split.CALIBRATION, Split.CERTIFICATION)]
    else:
        sides = [_found(calls, part) for part in kept]
    if since is not None:
        sides = [[each for each in side if each.call.arrived_at > since] for side in sides]
    return HeldOutCalls(_newest(sides[0]), _newest(sides[1]), _repeated(calls))


def _found(calls: Sequence[Assigned], kept: Sequence[HeldOut]) -> list[Assigned]:
    """Those that are still the task's, under the conversations' names of the dataset."""
    conversations = {each.call_id: each.conversation for each in kept}
    return [
        each._replace(conversation=conversations[each.call.call_id])
        for each in calls
        if each.call.call_id in conversations
    ]


def _newest(calls: Sequence[Assigned]) -> Sequence[Assigned]:
    """Those of the conversations that were begun last."""
    begun = list(dict.fromkeys(each.conversation for each in calls))
    taken = set(begun[-MOST_CONVERSATIONS:])
    return [each for each in calls if each.conversation in taken]


def _repeated(calls: Sequence[Assigned]) -> list[list[Assigned]]:
    same: dict[tuple[str, bytes], list[Assigned]] = defaultdict(list)
    for each in calls:
        same[each.call.model, _request_digest(each.call.features)].append(each)
    first: dict[str, list[Assigned]] = {}
    for found in same.values():
        if len(found) > 1:
            first.setdefault(found[0].conversation, found)
    return list(first.values())


def _request_digest(call: CallFeatures) -> bytes:
    asked = {name: value for name, value in call.body.items() if name not in _UNASKED}
    return blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()

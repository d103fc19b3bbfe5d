"""Which calls may be learned from at all, and what each is used for: training, the threshold, or the proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.learning.conversations import conversation_of
from router.learning.corpus import LoggedCall
from router.learning.curation.drops import Drop
from router.learning.curation.samples import Candidate, Rules
from router.learning.curation.schema_versions import outdated
from router.learning.curation.splits import Split, related, split


class Assigned(NamedTuple):
    """A usable call with its conversation's name and side."""

    candidate: Candidate
    call: LoggedCall
    conversation: str
    side: Split


@dataclass(frozen=True, slots=True)
class Divided:
    """A cluster's calls, each with what it is used for.

    Attributes:
        calls: oldest first.
        drops: reason → how many calls are used for nothing.
    """

    calls: tuple[Assigned, ...]
    drops: Mapping[Drop, int]


def divide(candidates: Sequence[Candidate], rules: Rules) -> Divided:
    """Divide all calls of a cluster, given in any order. Deterministic; costs little."""
    drops: Counter[Drop] = Counter()
    usable: list[tuple[Candidate, LoggedCall]] = []
    for candidate in candidates:
        reason = _forbidden(candidate, rules)
        if reason is None and candidate.call is not None:
            usable.append((candidate, candidate.call))
        elif reason is not None:
            drops[reason] += 1
    usable.sort(key=lambda pair: (pair[1].arrived_at, pair[1].call_id))
    old = outdated([call.features for _, call in usable], [call.arrived_at for _, call in usable])
    drops[Drop.OLD_SCHEMA] += sum(old)
    usable = [pair for pair, is_old in zip(usable, old, strict=True) if not is_old]
    conversations = related(
        [conversation_of(call.features) for _, call in usable],
        [f"{candidate.origin} {candidate.session}" if candidate.session else "" for candidate, _ in usable],
    )
    sides = split(conversations, [call.arrived_at for _, call in usable], rules.shares)
    assigned = (Assigned(*pair, *use) for pair, use in zip(usable, zip(conversations, sides, strict=True), strict=True))
    return Divided(tuple(assigned), drops)


def _forbidden(candidate: Candidate, rules: Rules) -> Drop | None:
    """Why nothing at all may be learned from a call, by what is known without reading it."""
    if candidate.answered_by != "llm":
        return Drop.SLM_SERVED
    if candidate.upstream in rules.forbidden_upstreams:
        return Drop.FORBIDDEN_UPSTREAM
    if candidate.origin in rules.forbidden_origins:
        return Drop.FORBIDDEN_KEY
    if candidate.call is None:
        return Drop.NOT_KEPT
    if rules.since is not None and candidate.call.arrived_at <= rules.since:
        return Drop.BEFORE_CHANGE
    answer = candidate.call.answer
    if answer is None or not (answer.tool_calls or answer.text.strip()):
        return Drop.INCOMPLETE
    return None

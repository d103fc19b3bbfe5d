"""What became of the tasks when the log was learned again: splits, mergers, ends, in words.

A task that was split or merged keeps its id where most of its calls went, but it is another task now. The watch sees to
it that nothing counts any more that was proved of the old one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from router.snapshot import Lineage
from storage.database import WriteSession
from storage.repositories.registry import audit


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to tasks.

    Attributes:
        action: what the audit trail calls it.
        before: ids of the tasks that it happened to.
        clusters: ids of the tasks that came of it.
        in_words: a clause.
    """

    action: str
    before: tuple[str, ...]
    clusters: tuple[str, ...]
    in_words: str


def changes_of(lineage: Sequence[Lineage]) -> tuple[Change, ...]:
    """Splits and mergers first, then tasks that are gone. New tasks are no change of any other."""
    heirs: dict[str, list[str]] = defaultdict(list)
    for each in lineage:
        for old in each.before:
            if each.cluster_id is not None:
                heirs[old].append(each.cluster_id)
    found = [
        Change("cluster.split", (old,), tuple(new), f"{old} was split into {_and(new)}")
        for old, new in heirs.items()
        if len(new) > 1
    ]
    found += [
        Change("cluster.merged", each.before, (each.cluster_id,), f"{_and(each.before)} became one: {each.cluster_id}")
        for each in lineage
        if each.cluster_id is not None and len(each.before) > 1
    ]
    told = {old for change in found for old in change.before}
    for each in lineage:
        if each.cluster_id is None and not told.intersection(each.before):
            found.append(Change("cluster.gone", each.before, (), f"{_and(each.before)} is no more"))
    return tuple(found)


def put_on_record(session: WriteSession, changes: Sequence[Change], actor: str) -> None:
    """Write the changes into the audit trail."""
    for change in changes:
        audit(
            session, actor, change.action, ", ".join(change.before),
            clusters=list(change.clusters), in_words=change.in_words,
        )  # fmt: skip


def _and(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{', '.join(ids[:-1])} and {ids[-1]}"

"""A task's calls as candidates for learning. Training and proof divide the same ones by the same rules.

Were one of them to see a call that the other doesn't, the splits would shift against each other, and what an SLM was
trained on could prove it.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.learning.teacher import Taught, taught_calls
from proxy.promotion.proof import llm_changed_at
from router.learning.curation.samples import Candidate, Rules
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.models import Call
from storage.repositories.feedback import lowest_scores
from storage.repositories.keys import origins_without_training


def rules_of(session: ReadSession, cluster_id: str) -> Rules:
    """What of a task may be learned from."""
    return Rules(forbidden_origins=origins_without_training(session), since=llm_changed_at(session, cluster_id))


def candidates_of(
    session: ReadSession, cipher: Cipher, cluster_id: str, progress: Callable[[str], None]
) -> list[Candidate]:
    """All calls of a task, also those that can't be used; curation counts these.

    Args:
        progress: told `stage: how far`.

    Raises:
        Undecipherable: the log is of another key.
    """
    candidates: list[Candidate] = []
    scores = lowest_scores(session, cluster_id)

    def count(damaged: Call) -> None:
        taught = Taught(damaged, None, damaged.served_by == "llm", damaged.model_reported)
        candidates.append(_candidate(taught, None))

    taught = taught_calls(session, cipher, progress, cluster_id=cluster_id, on_damaged=count)
    candidates.extend(_candidate(each, scores.get(each.row.call_id)) for each in taught)
    return candidates


def _candidate(taught: Taught, score: float | None) -> Candidate:
    """With the worst that was said of it; what is said of an SLM's answer is not said of the LLM's to the same call."""
    row = taught.row
    served = row.served_by == "llm"
    return Candidate(
        call=taught.call,
        origin=row.origin.hex(),
        upstream=row.upstream if served else "llm",
        session=row.session or "",
        answered_by="llm" if taught.is_answered else "slm",
        teacher=taught.teacher,
        redacted=row.log == "redacted",
        feedback=score if served else None,
        weighed=taught.weighed,
    )

"""Feedback: how people and programs found the answers to logged calls. It goes with its calls."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, case, delete, func, select

from storage.cipher import Cipher
from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.ids import format_call_id
from storage.models import Call, FeedbackRow
from storage.redaction import redact
from storage.repositories.pieces import lock_log

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one actor thinks of a call's answer.

    Attributes:
        score: in [-1, 1]; 1 is good.
        comment: None where there is none, or none is kept.
    """

    actor: str
    score: float
    comment: str | None
    at: datetime


def give_feedback(
    session: WriteSession,
    cipher: Cipher,
    call_id: bytes,
    actor: str,
    score: float,
    comment: str | None = None,
    origin: bytes | None = None,
) -> Feedback:
    """Note what somebody thinks of an answer, in the place of what they thought before.

    A comment may quote the call: of one that is kept redacted it is redacted, of one without bodies it is left out.

    Args:
        score: in [-1, 1].
        origin: only of calls that came with this credential.

    Raises:
        NotFound: no such call (yet: it reaches the database a second or two after its answer).
    """
    lock_log(session)  # or the call could be deleted meanwhile, and what is said of it would stay
    call = session.get(Call, call_id)
    if call is None or (origin is not None and call.origin != origin):
        raise NotFound(
            f"there is no call {format_call_id(call_id)} in the database that you could speak of; what was answered "
            "just now gets there within seconds"
        )
    if comment is not None:
        kept = {"full": comment.encode(), "redacted": redact(comment.encode())}.get(call.log)
        comment = None if kept is None else kept.decode()
    given = Feedback(actor, score, comment, datetime.now(UTC))
    sealed = None if comment is None else cipher.encrypt(comment.encode(), _context(call_id, actor))
    session.merge(FeedbackRow(call_id=call_id, actor=actor, score=score, comment=sealed, at=given.at))
    return given


def list_feedback(session: ReadSession, cipher: Cipher, call_id: bytes) -> list[Feedback]:
    """What was said of a call, oldest first.

    Raises:
        Undecipherable: a comment is damaged, or of another key.
    """
    query = select(FeedbackRow).where(FeedbackRow.call_id == call_id).order_by(FeedbackRow.at, FeedbackRow.actor)
    return [_opened(cipher, row) for row in session.scalars(query)]


def lowest_scores(session: ReadSession, cluster_id: str) -> dict[bytes, float]:
    """The worst that was said of each call of a cluster, by call id; those of which nothing was said are missing."""
    rows = session.execute(_worst().where(Call.cluster_id == cluster_id))
    return {call_id: score for call_id, score, _ in rows}


@dataclass(frozen=True, slots=True)
class Opinion:
    """How the answers of one SLM were found: calls with a worst score above 0, and below; 0 is neither."""

    model: str
    good: int
    poor: int


def opinions_of_slms(session: ReadSession, cluster_id: str) -> list[Opinion]:
    """Feedback on the calls of a cluster that SLMs served, by model."""
    worst = _worst().where(Call.cluster_id == cluster_id, Call.served_by == "slm").subquery()
    query = (
        select(
            worst.c.model_resolved,
            func.sum(case((worst.c.score > 0, 1), else_=0)),
            func.sum(case((worst.c.score < 0, 1), else_=0)),
        )
        .group_by(worst.c.model_resolved)
        .order_by(worst.c.model_resolved)
    )
    return [Opinion(model or "", int(good), int(poor)) for model, good, poor in session.execute(query)]


def delete_feedback(session: WriteSession, call_ids: Collection[bytes]) -> None:
    """Delete what was said of calls that are being deleted."""
    ids = list(call_ids)
    for start in range(0, len(ids), _BATCH):
        session.execute(delete(FeedbackRow).where(FeedbackRow.call_id.in_(ids[start : start + _BATCH])))


def _worst() -> Select[bytes, float, str | None]:
    """(call id, worst score, model that answered) of each call of which something was said."""
    return (
        select(FeedbackRow.call_id, func.min(FeedbackRow.score).label("score"), Call.model_resolved)
        .join(Call, Call.call_id == FeedbackRow.call_id)
        .group_by(FeedbackRow.call_id, Call.model_resolved)
    )


def _opened(cipher: Cipher, row: FeedbackRow) -> Feedback:
    sealed = row.comment
    comment = None if sealed is None else cipher.decrypt(sealed, _context(row.call_id, row.actor)).decode()
    return Feedback(row.actor, row.score, comment, row.at)


def _context(call_id: bytes, actor: str) -> bytes:
    return b"feedback:" + call_id + actor.encode()

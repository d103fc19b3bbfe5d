"""Copies: second answers to logged calls, that no client saw. They come after their calls and go with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import zstandard
from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update

from storage.cipher import Cipher, Undecipherable
from storage.database import ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import Call, CopyRow
from storage.records import CopyFacts, CopyRecord
from storage.redaction import redact
from storage.repositories.pieces import lock_log

ANSWERED = "answered"
SHADOW = "shadow"
AUDIT = "audit"
_MAX_BYTES = 2**31
_BATCH = 500


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """A copy from the database, with what was answered; None where nothing was, or nothing is kept."""

    row: CopyRow
    answer: bytes | None


def insert_copies(session: WriteSession, cipher: Cipher, copies: Sequence[tuple[CopyRecord, CopyFacts]]) -> list[bool]:
    """Add copies; those that are there already are left as they are.

    Of one whose call is not in the database (forgotten meanwhile) only what it cost is kept.

    Returns:
        For each copy whether it was new.
    """
    if not copies:
        return []
    lock_log(session)
    ids = [record.copy_id for record, _ in copies]
    known = set(session.scalars(select(CopyRow.copy_id).where(CopyRow.copy_id.in_(ids))))
    of_calls = [record.call_id for record, _ in copies]
    there = set(session.scalars(select(Call.call_id).where(Call.call_id.in_(of_calls))))
    new: list[bool] = []
    rows = []
    for record, facts in copies:
        new.append(record.copy_id not in known)
        if new[-1]:
            known.add(record.copy_id)
            rows.append(_row(cipher, record, facts, keep_answer=record.call_id in there))
    if rows:
        session.execute(insert(CopyRow), rows)
    return new


def _row(cipher: Cipher, record: CopyRecord, facts: CopyFacts, *, keep_answer: bool) -> dict[str, object]:
    answer = facts.answer if keep_answer else None
    if answer is not None and record.log != "full":
        answer = redact(answer)
    return {
        **{name: getattr(record, name) for name in _RECORD_COLUMNS},
        "at": datetime.fromtimestamp(record.at_ns / 1e9, UTC),
        "input_tokens": facts.input_tokens,
        "output_tokens": facts.output_tokens,
        "cost_usd": facts.cost_usd,
        "answer": None if answer is None else _seal(cipher, record.copy_id, answer),
    }


_RECORD_COLUMNS = [
    name for name in CopyRecord.__struct_fields__ if name in CopyRow.__table__.columns and name != "answer"
]


def copies_to_judge(session: ReadSession, limit: int, among: Collection[bytes] | None = None) -> list[CopyRow]:
    """Copies without a verdict, whatever came of them, in the order in which they were asked for.

    Args:
        among: ids; only these.
    """
    query = select(CopyRow).where(CopyRow.verdict.is_(None)).order_by(CopyRow.copy_id).limit(limit)
    if among is not None:
        query = query.where(CopyRow.copy_id.in_(list(among)))
    return list(session.scalars(query))


def open_answer(cipher: Cipher, row: CopyRow) -> bytes | None:
    """What a copy's answer says, as JSON; None where there was none, or none is kept.

    Raises:
        Undecipherable: it is damaged, or of another key.
    """
    return _opened(cipher, row).answer


def note_verdict(session: WriteSession, copy_id: bytes, verdict: str, reason: str | None, at: datetime) -> None:
    """Say whether a copy's answer agrees with the one that the client got.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    judged = {"verdict": verdict, "verdict_reason": reason, "judged_at": at}
    done = session.execute(update(CopyRow).where(CopyRow.copy_id == copy_id).values(judged))
    if not done.rowcount:  # type: ignore[attr-defined]
        raise NotFound(f"there is no copy {copy_id.hex()} any more")


def list_copies(
    session: ReadSession, cipher: Cipher, *, call_id: bytes | None = None, limit: int = 50
) -> list[StoredCopy]:
    """Copies, of one call or of all, newest first.

    Raises:
        Undecipherable: an answer is damaged, or of another key.
    """
    query = select(CopyRow).order_by(CopyRow.copy_id.desc()).limit(limit)
    if call_id is not None:
        query = query.where(CopyRow.call_id == call_id)
    return [_opened(cipher, row) for row in session.scalars(query)]


def audit_answers(
    session: ReadSession, cipher: Cipher, call_ids: Collection[bytes], on_damaged: Callable[[bytes], None]
) -> dict[bytes, bytes]:
    """What the LLM answered to calls that an SLM served, as JSON, by call id; the audited ones among them.

    Args:
        on_damaged: gets the id of each copy whose answer is damaged, or of another key; it is left out.
    """
    found: dict[bytes, bytes] = {}
    ids = list(call_ids)
    for start in range(0, len(ids), _BATCH):
        query = select(CopyRow.copy_id, CopyRow.call_id, CopyRow.answer).where(
            CopyRow.call_id.in_(ids[start : start + _BATCH]),
            CopyRow.kind == AUDIT,
            CopyRow.outcome == ANSWERED,
        )
        for copy_id, call_id, answer in session.execute(query):
            if answer is not None:
                try:
                    found[call_id] = _unseal(cipher, copy_id, answer)
                except Undecipherable:
                    on_damaged(copy_id)
    return found


@dataclass(frozen=True, slots=True)
class CopyTotals:
    """Sums over the copies of one kind that share a key: one cluster's, say.

    Money is summed over the copies whose cost is known; `unpriced` counts the answers whose cost isn't.
    """

    key: str | None
    kind: str
    copies: int
    answered: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int
    duration_ms: float


def copy_totals(
    session: ReadSession, by: str = "cluster", since: datetime | None = None, until: datetime | None = None
) -> list[CopyTotals]:
    """Sums by `cluster`, `day`, or the `model` or `agent` of the calls that were copied."""
    column = _keys()[by]
    query = (
        select(
            column,
            CopyRow.kind,
            func.count(),
            func.count().filter(CopyRow.outcome == ANSWERED),
            func.coalesce(func.sum(CopyRow.input_tokens), 0),
            func.coalesce(func.sum(CopyRow.output_tokens), 0),
            func.coalesce(func.sum(CopyRow.cost_usd), 0.0),
            func.count().filter(CopyRow.cost_usd.is_(None), CopyRow.status == 200),
            func.coalesce(func.sum(CopyRow.duration_ms), 0.0),
        )
        .select_from(CopyRow)
        .group_by(column, CopyRow.kind)
    )
    query = _windowed(query, by, since, until)
    found = [
        CopyTotals(None if row[0] is None else str(row[0]), row[1], *map(_number, row[2:]))
        for row in session.execute(query)
    ]
    return sorted(found, key=lambda total: (total.key or "", total.kind))


def shadow_busy_ms(
    session: ReadSession, by: str = "cluster", since: datetime | None = None, until: datetime | None = None
) -> dict[tuple[str | None, str], float]:
    """For how long shadows kept SLM servers busy, by what `copy_totals` groups by and by server."""
    column = _keys()[by]
    query = select(column, CopyRow.slm, func.sum(CopyRow.duration_ms)).where(CopyRow.kind == SHADOW)
    query = _windowed(query.select_from(CopyRow).group_by(column, CopyRow.slm), by, since, until)
    rows = session.execute(query)
    return {(None if key is None else str(key), slm): float(busy_ms) for key, slm, busy_ms in rows}


def _keys() -> dict[str, ColumnElement[Any]]:
    return {
        "cluster": CopyRow.cluster_id.expression,
        "model": Call.model_requested.expression,
        "agent": Call.agent.expression,
        "day": func.date(CopyRow.at),
    }


def _windowed(query: Select[Any], by: str, since: datetime | None, until: datetime | None) -> Select[Any]:
    if by in ("model", "agent"):
        query = query.outerjoin(Call, Call.call_id == CopyRow.call_id)
    if since is not None:
        query = query.where(CopyRow.at >= since)
    if until is not None:
        query = query.where(CopyRow.at < until)
    return query


def _number(value: Any) -> Any:
    return value if isinstance(value, int) else float(value)


def known_cost_usd(session: ReadSession, since: datetime) -> float:
    """What all copies since then are known to have cost."""
    return float(session.scalar(select(func.coalesce(func.sum(CopyRow.cost_usd), 0.0)).where(CopyRow.at >= since)) or 0)


def delete_copies(session: WriteSession, call_ids: Collection[bytes]) -> None:
    """Delete the copies of calls that are being deleted."""
    ids = list(call_ids)
    for start in range(0, len(ids), _BATCH):
        session.execute(delete(CopyRow).where(CopyRow.call_id.in_(ids[start : start + _BATCH])))


def _opened(cipher: Cipher, row: CopyRow) -> StoredCopy:
    return StoredCopy(row, None if row.answer is None else _unseal(cipher, row.copy_id, row.answer))


def _seal(cipher: Cipher, copy_id: bytes, answer: bytes) -> bytes:
    return cipher.encrypt(zstandard.ZstdCompressor().compress(answer), b"copy:" + copy_id)


def _unseal(cipher: Cipher, copy_id: bytes, sealed: bytes) -> bytes:
    frame = cipher.decrypt(sealed, b"copy:" + copy_id)
    try:
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=_MAX_BYTES)
    except zstandard.ZstdError as error:
        raise Undecipherable(f"the answer of copy {copy_id.hex()} can't be read: {error}") from error

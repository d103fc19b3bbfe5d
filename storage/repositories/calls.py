"""The log: calls in, calls out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.bodies import Packer, train_dictionary
from storage.cipher import Cipher
from storage.database import ReadSession, WriteSession
from storage.encodings import decompress
from storage.errors import NotFound
from storage.ids import format_call_id
from storage.models import Call, Dictionary, StoredMessage
from storage.records import CallFacts, CallRecord
from storage.redaction import redact
from storage.repositories.retention import USED_GRANULARITY, keep_messages

DICTIONARY_AFTER = 400  # stored pieces; zstd wants about a hundred times the dictionary's size, and gets what there is
MAX_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class StoredCall:
    """A call from the log, with its bodies as they came (None where the log keeps none).

    Attributes:
        attempt_answers: one for each of `row.attempts`: what it answered where that was not served, else empty.
    """

    row: Call
    request_body: bytes | None
    response_body: bytes | None
    attempt_answers: tuple[bytes, ...]

    @property
    def call_id(self) -> str:
        """The id as clients see it."""
        return format_call_id(self.row.call_id)


def packer(session: ReadSession, cipher: Cipher) -> Packer:
    """What packs and unpacks this database's bodies."""
    found = session.execute(select(Dictionary.dictionary_id, Dictionary.body)).all()
    return Packer(cipher, {row.dictionary_id: cipher.decrypt(row.body) for row in found})


def insert_calls(session: WriteSession, cipher: Cipher, calls: Sequence[tuple[CallRecord, CallFacts]]) -> list[bool]:
    """Add calls; those that are there already are left as they are.

    Returns:
        For each call whether it was new.
    """
    if not calls:
        return []
    keep_messages(session)
    pack = packer(session, cipher)
    known = set(session.scalars(select(Call.call_id).where(Call.call_id.in_([record.call_id for record, _ in calls]))))
    shared: dict[bytes, bytes] = {}
    rows: list[dict[str, Any]] = []
    new: list[bool] = []
    for record, facts in calls:
        new.append(record.call_id not in known)
        if new[-1]:
            known.add(record.call_id)
            rows.append(_row(record, facts, pack, shared))
    if not rows:
        return new
    _insert_messages(session, cipher, pack, shared)
    upsert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    session.execute(upsert(Call).on_conflict_do_nothing(), rows)
    return new


def _row(record: CallRecord, facts: CallFacts, pack: Packer, shared: dict[bytes, bytes]) -> dict[str, Any]:
    kept = _kept(record)
    attempts = [
        {
            "upstream": attempt.upstream,
            "model": attempt.model,
            "outcome": attempt.outcome,
            "status": attempt.status,
            "duration_ms": attempt.duration_ms,
        }
        for attempt in record.attempts
    ]
    return {
        **{name: getattr(record, name) for name in _RECORD_COLUMNS},
        **{name: value for name, value in msgspec.structs.asdict(facts).items() if name != "tool_calls"},
        "arrived_at": datetime.fromtimestamp(record.arrived_at_ns / 1e9, UTC),
        "attempts": attempts,
        "tool_calls": list(facts.tool_calls),
        "request_body": None if kept.request is None else pack.pack_body(kept.request, shared.__setitem__),
        "response_body": None if kept.response is None else pack.pack_body(kept.response, shared.__setitem__),
        "response_content_encoding": kept.response_content_encoding,
        "attempt_answers": pack.pack(msgspec.msgpack.encode(kept.attempts)) if any(kept.attempts) else None,
    }


class _Kept(NamedTuple):
    """The bodies that the log may keep of a call."""

    request: bytes | None
    response: bytes | None
    response_content_encoding: str
    attempts: list[bytes]


def _kept(record: CallRecord) -> _Kept:
    encoding = record.response_content_encoding
    answers = [attempt.answer for attempt in record.attempts]
    if record.log == "metadata":
        return _Kept(None, None, encoding, [])
    if record.log == "full":
        return _Kept(record.request_body, record.response_body, encoding, answers)
    response = decompress(record.response_body, encoding)  # what can't be read can't be redacted: it isn't kept
    return _Kept(
        redact(record.request_body),
        None if response is None else redact(response),
        encoding if response is None else "",
        [redact(answer) for answer in answers],
    )


_RECORD_COLUMNS = [
    name
    for name in CallRecord.__struct_fields__
    if name not in {"arrived_at_ns", "attempts", "request_body", "response_body"}
]


def _insert_messages(session: WriteSession, cipher: Cipher, pack: Packer, shared: dict[bytes, bytes]) -> None:
    """Store the pieces that aren't there, note that the others are still in use, and train a dictionary once."""
    now = datetime.now(UTC)
    hashes = list(shared)
    there: set[bytes] = set()
    for start in range(0, len(hashes), 500):
        there.update(
            session.scalars(
                select(StoredMessage.message_hash).where(StoredMessage.message_hash.in_(hashes[start : start + 500]))
            )
        )
    if there:
        for start in range(0, len(hashes), 500):
            session.execute(
                update(StoredMessage)
                .where(
                    StoredMessage.message_hash.in_(hashes[start : start + 500]),
                    StoredMessage.last_used_at < now - USED_GRANULARITY,
                )
                .values(last_used_at=now)
            )
    fresh = [found for found in hashes if found not in there]
    if not fresh:
        return
    upsert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    session.execute(
        upsert(StoredMessage).on_conflict_do_nothing(),
        [{"message_hash": found, "body": pack.pack(shared[found]), "last_used_at": now} for found in fresh],
    )
    if not pack.dictionaries:
        stored = session.scalar(select(func.count()).select_from(StoredMessage)) or 0
        if stored >= DICTIONARY_AFTER:
            _train(session, cipher, pack)


def _train(session: WriteSession, cipher: Cipher, pack: Packer) -> None:
    packed = session.scalars(select(StoredMessage.body).limit(4 * DICTIONARY_AFTER))
    body = train_dictionary([pack.unpack(piece)[:MAX_SAMPLE_BYTES] for piece in packed], 1)
    if body is not None:
        session.execute(
            insert(Dictionary), [{"dictionary_id": 1, "body": cipher.encrypt(body), "created_at": datetime.now(UTC)}]
        )


def get_call(session: ReadSession, cipher: Cipher, call_id: bytes) -> StoredCall:
    """One call with its bodies.

    Raises:
        NotFound: no call of that id (yet: a call reaches the database a second or two after its answer).
    """
    row = session.get(Call, call_id)
    if row is None:
        raise NotFound(f"there is no call {format_call_id(call_id)} in the database")
    return next(_with_bodies(session, packer(session, cipher), [row]))


def find_calls(
    session: ReadSession,
    *,
    cluster_id: str | None = None,
    served_by: str | None = None,
    reason: str | None = None,
    agent: str | None = None,
    before: bytes | None = None,
    limit: int = 50,
) -> list[Call]:
    """Calls without their bodies, newest first.

    Args:
        before: id of a page's last call: only those that come after it.

    Raises:
        NotFound: no such call (any more).
    """
    query = select(Call).order_by(Call.arrived_at.desc(), Call.call_id.desc()).limit(limit)
    for column, value in (
        (Call.cluster_id, cluster_id),
        (Call.served_by, served_by),
        (Call.reason, reason),
        (Call.agent, agent),
    ):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        arrived_at = session.scalar(select(Call.arrived_at).where(Call.call_id == before))
        if arrived_at is None:
            raise NotFound(f"there is no call {format_call_id(before)} in the database: start from the first page")
        query = query.where(tuple_(Call.arrived_at, Call.call_id) < (arrived_at, before))
    return list(session.scalars(query))


def iter_calls(
    session: ReadSession, cipher: Cipher, *, endpoints: Iterable[str] = ("chat", "responses"), batch: int = 500
) -> Iterator[StoredCall]:
    """All calls of some endpoints in the order of their arrival, a batch in memory at a time."""
    pack = packer(session, cipher)
    query = select(Call).where(Call.endpoint.in_(list(endpoints))).order_by(Call.arrived_at, Call.call_id).limit(batch)
    following = query
    while True:
        rows = list(session.scalars(following))
        if not rows:
            return
        last = (rows[-1].arrived_at, rows[-1].call_id)
        yield from _with_bodies(session, pack, rows)
        session.expunge_all()
        following = query.where(tuple_(Call.arrived_at, Call.call_id) > last)


def _with_bodies(session: ReadSession, pack: Packer, rows: Sequence[Call]) -> Iterator[StoredCall]:
    bodies = {
        row.call_id: row
        for row in session.execute(
            select(Call.call_id, Call.request_body, Call.response_body, Call.attempt_answers).where(
                Call.call_id.in_([row.call_id for row in rows])
            )
        )
    }
    wanted = {
        reference
        for row in bodies.values()
        for body in (row.request_body, row.response_body)
        if body is not None
        for reference in pack.references(body)
    }
    pieces: dict[bytes, bytes] = {}
    hashes = sorted(wanted)
    for start in range(0, len(hashes), 500):
        found = session.execute(
            select(StoredMessage.message_hash, StoredMessage.body).where(
                StoredMessage.message_hash.in_(hashes[start : start + 500])
            )
        )
        pieces.update({row.message_hash: pack.unpack(row.body) for row in found})
    for row in rows:
        stored = bodies[row.call_id]
        request, response = (
            None if body is None else pack.unpack_body(body, pieces.__getitem__)
            for body in (stored.request_body, stored.response_body)
        )
        answers = stored.attempt_answers
        yield StoredCall(
            row,
            request,
            response,
            tuple(msgspec.msgpack.decode(pack.unpack(answers), type=list[bytes]))
            if answers is not None
            else (b"",) * len(row.attempts),
        )


def count_calls(session: ReadSession) -> int:
    """How many calls are in the database."""
    return session.scalar(select(func.count()).select_from(Call)) or 0


_PRICED = ("chat", "responses", "completions", "embeddings")


@dataclass(frozen=True)
class Totals:
    """Sums over the calls that share a key: one cluster's, say, or those in none (`key` None).

    Money is summed over the calls whose cost is known, `priced` of them; `unpriced` counts those that were answered by
    a model without a known price. Failed calls, and those that have no price, are neither.
    """

    key: str | None
    calls: int
    slm_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    slm_cost_usd: float
    counterfactual_usd: float
    wasted_usd: float
    mean_duration_ms: float
    unpriced: int
    priced: int


def totals(
    session: ReadSession, by: str = "cluster", since: datetime | None = None, until: datetime | None = None
) -> list[Totals]:
    """Sums by `cluster`, `model`, `agent` or `day`."""
    column = {
        "cluster": Call.cluster_id,
        "model": Call.model_requested,
        "agent": Call.agent,
        "day": func.date(Call.arrived_at),
    }[by]
    slm = Call.served_by == "slm"
    query = select(
        column,
        func.count(),
        func.count().filter(slm),
        func.coalesce(func.sum(Call.input_tokens), 0),
        func.coalesce(func.sum(Call.output_tokens), 0),
        func.coalesce(func.sum(Call.cost_usd), 0.0),
        func.coalesce(func.sum(Call.cost_usd).filter(slm), 0.0),
        func.coalesce(func.sum(Call.counterfactual_usd), 0.0),
        func.coalesce(func.sum(Call.wasted_usd), 0.0),
        func.coalesce(func.avg(Call.duration_ms), 0.0),
        func.count().filter(Call.cost_usd.is_(None), Call.status == 200, Call.endpoint.in_(_PRICED)),
        func.count(Call.cost_usd),
    ).group_by(column)
    if since is not None:
        query = query.where(Call.arrived_at >= since)
    if until is not None:
        query = query.where(Call.arrived_at < until)
    found = [Totals(None if row[0] is None else str(row[0]), *map(_number, row[1:])) for row in session.execute(query)]
    return sorted(found, key=lambda total: (-total.calls, total.key or ""))


def _number(value: Any) -> Any:
    return value if isinstance(value, int) else float(value)


def assign_clusters(session: WriteSession, snapshot_id: str, clusters: Iterable[tuple[bytes, str | None]]) -> None:
    """Note which task each logged call belongs to, as a new snapshot sees it."""
    rows = [{"call_id": call_id, "cluster_id": cluster, "snapshot_id": snapshot_id} for call_id, cluster in clusters]
    for start in range(0, len(rows), 2000):
        session.execute(update(Call), rows[start : start + 2000])

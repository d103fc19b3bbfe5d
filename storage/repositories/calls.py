"""The log: calls in, calls out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, case, func, insert, select, tuple_, update

from storage.bodies import CutBodies, join, split
from storage.cipher import SECONDS_PER_DAY, Cipher, Undecipherable
from storage.database import ReadSession, WriteSession
from storage.encodings import decompress
from storage.errors import NotFound
from storage.ids import format_call_id
from storage.models import Call
from storage.records import CallFacts, CallRecord
from storage.redaction import redact
from storage.repositories.pieces import PieceWriter, lock_log, read_bodies, read_pieces


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


def insert_calls(
    session: WriteSession,
    cipher: Cipher,
    calls: Sequence[tuple[CallRecord, CallFacts]],
    on_damaged: Callable[[int], None] = lambda block: None,
) -> list[bool]:
    """Add calls; those that are there already are left as they are.

    Args:
        on_damaged: gets the number of each damaged block that is met; the calls go beside it.

    Returns:
        For each call whether it was new.

    Raises:
        Undecipherable: the log is of another key.
    """
    if not calls:
        return []
    kept = [_kept(record) for record, _ in calls]  # takes longest: nobody waits for it
    lock_log(session)
    known = set(session.scalars(select(Call.call_id).where(Call.call_id.in_([record.call_id for record, _ in calls]))))
    days: dict[int, list[tuple[CutBodies, dict[str, Any]]]] = defaultdict(list)
    new: list[bool] = []
    for (record, facts), (bodies, encoding) in zip(calls, kept, strict=True):
        new.append(record.call_id not in known)
        if new[-1]:
            known.add(record.call_id)
            row = _row(record, facts) | {"response_content_encoding": encoding}
            days[record.arrived_at_ns // (SECONDS_PER_DAY * 10**9)].append((bodies, row))
    for day, added in days.items():
        with PieceWriter(session, cipher, day, on_damaged) as writer:
            writer.look_up(bodies for bodies, _ in added)
            for bodies, row in added:
                row["bodies_id"] = None if bodies.request is None else writer.add_bodies(bodies)
        session.execute(insert(Call), [row for _, row in added])
    return new


def _row(record: CallRecord, facts: CallFacts) -> dict[str, Any]:
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
    }


def _kept(record: CallRecord) -> tuple[CutBodies, str]:
    """What the log may keep of a call's bodies, and the answer's content encoding there."""
    encoding = record.response_content_encoding
    answers = [attempt.answer for attempt in record.attempts]
    if record.log == "metadata":
        return CutBodies(None, None, []), encoding
    if record.log == "full":
        return CutBodies(split(record.request_body), split(record.response_body), answers), encoding
    response = decompress(record.response_body, encoding)  # what can't be read can't be redacted: it isn't kept
    return (
        CutBodies(
            split(redact(record.request_body)),
            None if response is None else split(redact(response)),
            [redact(answer) for answer in answers],
        ),
        encoding if response is None else "",
    )


_RECORD_COLUMNS = [
    name
    for name in CallRecord.__struct_fields__
    if name not in {"arrived_at_ns", "attempts", "request_body", "response_body", "traceparent"}
]


def get_call(session: ReadSession, cipher: Cipher, call_id: bytes) -> StoredCall:
    """One call with its bodies.

    Raises:
        NotFound: no call of that id (yet: a call reaches the database a second or two after its answer).
        Undecipherable: the block that its bodies are in is damaged, or of another key.
    """

    def refuse(call: Call) -> None:
        raise Undecipherable(f"what call {format_call_id(call.call_id)} said lies in a damaged block")

    row = session.get(Call, call_id)
    found = None if row is None else next(_with_bodies(session, cipher, [row], refuse), None)
    if found is None:
        raise NotFound(f"there is no call {format_call_id(call_id)} in the database")
    return found


def find_calls(
    session: ReadSession,
    *,
    cluster_id: str | None = None,
    served_by: str | None = None,
    reason: str | None = None,
    agent: str | None = None,
    slower_than_ms: float | None = None,
    before: bytes | None = None,
    limit: int = 50,
) -> list[Call]:
    """Calls without their bodies, newest first.

    Args:
        slower_than_ms: only those that took longer, from arrival to the last byte of their answer.
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
    if slower_than_ms is not None:
        query = query.where(Call.duration_ms > slower_than_ms)
    if before is not None:
        arrived_at = session.scalar(select(Call.arrived_at).where(Call.call_id == before))
        if arrived_at is None:
            raise NotFound(f"there is no call {format_call_id(before)} in the database: start from the first page")
        query = query.where(tuple_(Call.arrived_at, Call.call_id) < (arrived_at, before))
    return list(session.scalars(query))


def iter_calls(
    session: ReadSession,
    cipher: Cipher,
    *,
    endpoints: Iterable[str] = ("chat", "responses"),
    cluster_id: str | None = None,
    batch: int = 500,
    on_damaged: Callable[[Call], None] = lambda call: None,
) -> Iterator[StoredCall]:
    """Calls of some endpoints, of all clusters or one, in the order of their arrival, a batch in memory at a time.

    Args:
        on_damaged: gets each call whose bodies lie in a damaged block; it is left out.

    Raises:
        Undecipherable: the log is of another key.
    """
    query = select(Call).where(Call.endpoint.in_(list(endpoints))).order_by(Call.arrived_at, Call.call_id).limit(batch)
    if cluster_id is not None:
        query = query.where(Call.cluster_id == cluster_id)
    following = query
    while True:
        rows = list(session.scalars(following))
        if not rows:
            return
        last = (rows[-1].arrived_at, rows[-1].call_id)
        yield from _with_bodies(session, cipher, rows, on_damaged)
        session.expunge_all()
        following = query.where(tuple_(Call.arrived_at, Call.call_id) > last)


def _with_bodies(
    session: ReadSession, cipher: Cipher, rows: Sequence[Call], on_damaged: Callable[[Call], None]
) -> Iterator[StoredCall]:
    """Leaves out the calls that are just being deleted, and those that `on_damaged` gets."""
    lost: set[int] = set()
    bodies = read_bodies(session, cipher, [row.bodies_id for row in rows if row.bodies_id is not None], lost)
    references = {piece_id for some in bodies.values() for piece_id in some.references}
    pieces = read_pieces(session, cipher, references, lost)
    for row in rows:
        if row.bodies_id is None:
            yield StoredCall(row, None, None, (b"",) * len(row.attempts))
            continue
        if row.bodies_id in lost or (row.bodies_id in bodies and bodies[row.bodies_id].references & lost):
            on_damaged(row)
            continue
        try:
            kept = bodies[row.bodies_id]
            request, response = (
                None if template is None else join(template, pieces) for template in (kept.request, kept.response)
            )
        except KeyError:
            continue
        yield StoredCall(row, request, response, tuple(kept.attempts))


def calls_after(
    session: ReadSession, cipher: Cipher, cluster_id: str, after: tuple[datetime, bytes], before: datetime, limit: int
) -> list[StoredCall]:
    """A cluster's next calls, of those whose bodies can be read.

    Args:
        after: arrival and id of the last that was had.
        before: later ones are left for the next time.
    """
    query = select(Call).where(
        Call.cluster_id == cluster_id,
        Call.arrived_at < before,
        tuple_(Call.arrived_at, Call.call_id) > after,
    )
    rows = list(session.scalars(query.order_by(Call.arrived_at, Call.call_id).limit(limit)))
    return list(_with_bodies(session, cipher, rows, lambda damaged: None))


def recent_attempts(
    session: ReadSession, cluster_id: str, faults: Sequence[str], since: datetime, until: datetime, limit: int
) -> list[bool]:
    """Whether a cluster's SLM failed in its newest attempts, newest first.

    Args:
        faults: reasons of calls that an SLM was tried for in vain.
        since, until: when the calls arrived.
    """
    tried = (Call.served_by == "slm") | Call.reason.in_(list(faults))
    query = select(Call.served_by).where(
        Call.cluster_id == cluster_id, Call.arrived_at >= since, Call.arrived_at < until, tried
    )
    return [server != "slm" for server in session.scalars(query.order_by(Call.arrived_at.desc()).limit(limit))]


def count_calls(session: ReadSession, since: datetime | None = None) -> int:
    """How many calls are in the database; of those that arrived after a moment, if one is given."""
    query = select(func.count()).select_from(Call)
    return session.scalar(query if since is None else query.where(Call.arrived_at > since)) or 0


def first_arrival(session: ReadSession) -> datetime | None:
    """When the oldest call in the database arrived; None while there is none."""
    return session.scalar(select(func.min(Call.arrived_at)))


def endpoints_in_log(session: ReadSession) -> list[str]:
    """The endpoints that have calls, sorted."""
    return sorted(session.scalars(select(Call.endpoint).distinct()))


def reported_models(session: ReadSession, cluster_id: str, newest: int = 100) -> list[str]:
    """What the LLM called itself in its newest answers on a cluster: distinct names, sorted."""
    named = (
        select(Call.model_reported)
        .where(Call.cluster_id == cluster_id, Call.served_by == "llm", Call.model_reported.is_not(None))
        .order_by(Call.arrived_at.desc())
        .limit(newest)
        .subquery()
    )
    return sorted(name for name in session.scalars(select(named.c.model_reported).distinct()) if name)


def known_calls(session: ReadSession, call_ids: Collection[bytes]) -> set[bytes]:
    """Those of some calls that are in the log."""
    known: set[bytes] = set()
    wanted = iter(call_ids)
    while some := list(islice(wanted, 500)):
        known.update(session.scalars(select(Call.call_id).where(Call.call_id.in_(some))))
    return known


#: The LLM answered it whole, and what was said is kept.
_TAUGHT = (Call.served_by == "llm", Call.status == 200, Call.ended == "finished", Call.bodies_id.is_not(None))


def count_taught(session: ReadSession, cluster_id: str, since: datetime | None = None) -> int:
    """How many calls of a cluster the LLM answered whole, with what was said; of those that came after `since`."""
    query = select(func.count()).select_from(Call).where(Call.cluster_id == cluster_id, *_TAUGHT)
    return session.scalar(query if since is None else query.where(Call.arrived_at > since)) or 0


def reported_calls(session: ReadSession, cipher: Cipher, cluster_id: str, newest: int) -> list[StoredCall]:
    """A cluster's newest whole answers of the LLM whose tokens it reported, with their bodies where these are kept.

    Raises:
        Undecipherable: the log is of another key.
    """
    query = (
        select(Call)
        .where(
            Call.cluster_id == cluster_id,
            *_TAUGHT,
            Call.endpoint.in_(("chat", "responses")),
            Call.input_tokens.is_not(None),
            Call.tokens_estimated.is_(False),
        )
        .order_by(Call.arrived_at.desc())
        .limit(newest)
    )
    return list(_with_bodies(session, cipher, list(session.scalars(query)), lambda damaged: None))


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

    @classmethod
    def of_none(cls, key: str | None) -> Totals:
        """Of what has no calls, and costs all the same."""
        return cls(key, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)


def _keys() -> dict[str, ColumnElement[Any]]:
    return {
        "cluster": Call.cluster_id.expression,
        "model": Call.model_requested.expression,
        "agent": Call.agent.expression,
        "day": func.date(Call.arrived_at),
    }


def totals(
    session: ReadSession, by: str = "cluster", since: datetime | None = None, until: datetime | None = None
) -> list[Totals]:
    """Sums by `cluster`, `model`, `agent` or `day`."""
    column = _keys()[by]
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


def slm_busy_ms(
    session: ReadSession, by: str = "cluster", since: datetime | None = None, until: datetime | None = None
) -> dict[tuple[str | None, str], float]:
    """For how long calls kept SLM servers busy, by what `totals` groups by and by server."""
    column = _keys()[by]
    query = (
        select(column, Call.upstream, func.sum(Call.duration_ms))
        .where(Call.served_by == "slm")
        .group_by(column, Call.upstream)
    )
    if since is not None:
        query = query.where(Call.arrived_at >= since)
    if until is not None:
        query = query.where(Call.arrived_at < until)
    rows = session.execute(query)
    return {(None if key is None else str(key), slm): float(busy_ms) for key, slm, busy_ms in rows}


@dataclass(frozen=True)
class Volume:
    """How much a cluster is called, and what its calls cost; of those in none where the key is None.

    Attributes:
        llm_usd: what the LLM charged for the calls that it answered, and would have charged for the others, `priced`
            of them together.
        slm_usd: what SLMs charged for the calls that they served, by token.
    """

    calls: int
    first_at: datetime
    last_at: datetime
    llm_usd: float
    priced: int
    slm_calls: int
    slm_usd: float
    input_tokens: float
    output_tokens: float


def volumes(session: ReadSession) -> dict[str | None, Volume]:
    """Each cluster's volume over the whole log."""
    slm = Call.served_by == "slm"
    llm_usd = case((slm, Call.counterfactual_usd), else_=Call.cost_usd)
    query = select(
        Call.cluster_id,
        func.count(),
        func.min(Call.arrived_at),
        func.max(Call.arrived_at),
        func.coalesce(func.sum(llm_usd), 0.0),
        func.count(llm_usd),
        func.count().filter(slm),
        func.coalesce(func.sum(Call.cost_usd).filter(slm), 0.0),
        func.coalesce(func.avg(Call.input_tokens), 0.0),
        func.coalesce(func.avg(Call.output_tokens), 0.0),
    ).group_by(Call.cluster_id)
    return {
        key: Volume(calls, first_at, last_at, *map(_number, figures))
        for key, calls, first_at, last_at, *figures in session.execute(query)
    }


def long_call_tokens(session: ReadSession, cluster_id: str, share: float = 0.99) -> int | None:
    """How long a cluster's calls get, prompt and answer together.

    Args:
        share: of the calls are no longer, in (0, 1]; a few long ones are not worth a larger model.

    Returns:
        Tokens as the LLM counts them; None where no call's are known.
    """
    length = Call.input_tokens + Call.output_tokens
    known = (Call.cluster_id == cluster_id, length.is_not(None))
    count = session.scalar(select(func.count()).where(*known)) or 0
    if not count:
        return None
    last = math.ceil(count * share) - 1
    return session.scalar(select(length).where(*known).order_by(length).offset(last).limit(1))


def _number(value: Any) -> Any:
    return value if isinstance(value, int) else float(value)


def assign_clusters(session: WriteSession, snapshot_id: str, clusters: Iterable[tuple[bytes, str | None]]) -> None:
    """Note which task each logged call belongs to, as a new snapshot sees it."""
    rows = [{"call_id": call_id, "cluster_id": cluster, "snapshot_id": snapshot_id} for call_id, cluster in clusters]
    for start in range(0, len(rows), 2000):
        session.execute(update(Call), rows[start : start + 2000])

"""The tables. `migrations/` brings an older database up to them; a test compares the two."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Text(TypeDecorator[str]):
    """Text from anywhere: what a database can't hold (NUL in PostgreSQL, lone surrogates) becomes U+FFFD."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Clean it; ASCII without NUL, which is nearly all, as it is."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return _UNSTORABLE.sub("\ufffd", value)


class Moment(TypeDecorator[datetime]):
    """A point in time, in UTC wherever it is kept: SQLite forgets the zone. One without a zone is meant in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        return _utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC."""
        return _utc(value)


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: Counts on for ever. SQLite has one type for that, and makes a row's own number of it where it is the key.
Number = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """All tables; constraint names are fixed, so that migrations can address them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own convention
        datetime: Moment,
        str: Text,
        bytes: LargeBinary,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Call(Base):
    """A logged call; `bodies_id` is the number of the piece that holds its bodies, NULL where none are kept."""

    __tablename__ = "calls"
    __table_args__ = (Index("ix_calls_cluster_id_arrived_at", "cluster_id", "arrived_at"),)

    call_id: Mapped[bytes] = mapped_column(primary_key=True)
    arrived_at: Mapped[datetime] = mapped_column(index=True)
    method: Mapped[str]
    path: Mapped[str]
    endpoint: Mapped[str]
    status: Mapped[int]
    served_by: Mapped[str]
    upstream: Mapped[str]
    reason: Mapped[str]
    duration_ms: Mapped[float]
    first_token_ms: Mapped[float | None]
    ended: Mapped[str]
    request_content_type: Mapped[str]
    response_content_type: Mapped[str]
    response_content_encoding: Mapped[str]
    model_requested: Mapped[str | None]
    model_resolved: Mapped[str | None]
    model_reported: Mapped[str | None]
    cluster_id: Mapped[str | None]
    snapshot_id: Mapped[str | None]
    origin: Mapped[bytes]
    agent: Mapped[str | None]
    session: Mapped[str | None]
    call_site: Mapped[str | None]
    upstream_request_id: Mapped[str | None]
    attempts: Mapped[list[Any]]
    log: Mapped[str]
    source: Mapped[str | None]
    stream: Mapped[bool]
    input_tokens: Mapped[int | None]
    cached_input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]
    tokens_estimated: Mapped[bool]
    finish_reason: Mapped[str | None]
    tool_calls: Mapped[list[Any]]
    error_code: Mapped[str | None]
    cost_usd: Mapped[float | None]
    counterfactual_usd: Mapped[float | None]
    wasted_usd: Mapped[float]
    bodies_id: Mapped[int | None] = mapped_column(Number)


class Block(Base):
    """Neighbouring pieces, compressed and encrypted together: those numbered from `first_id`, `pieces` of them.

    Attributes:
        day: on which its calls arrived, counted from 1970. Calls of the next day may still refer to its pieces.
        size: bytes before compression.
    """

    __tablename__ = "blocks"

    first_id: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    pieces: Mapped[int]
    day: Mapped[int]
    size: Mapped[int] = mapped_column(Number)
    data: Mapped[bytes]


class SharedPiece(Base):
    """Where a piece that recurs (a message, a tool list) is, by its keyed hash, so that it isn't stored again."""

    __tablename__ = "shared_pieces"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy's own convention

    piece_hash: Mapped[bytes] = mapped_column(primary_key=True)
    piece_id: Mapped[int] = mapped_column(Number)
    day: Mapped[int]  # of its block


class CopyRow(Base):
    """A second answer to a logged call, that no client ever saw: an SLM's (`shadow`) or the LLM's (`audit`). No call.

    Attributes:
        call_id: of the client's call that it repeats.
        promotion_id: in force when the copy was made.
        slm, model: of that promotion, whoever answered.
        outcome: `answered`, or why there is no answer that would have been served: a value of
            `router.decision.Reason`, `llm_error` or `llm_timeout`.
        confidence: mean token probability of an SLM's answer; None where it gave none.
        cost_usd: None where nobody knows; never 0 for that.
        answer: body as JSON, compressed and encrypted by `repositories/copies.py`; None where there was none, and where
            none is kept.
        verdict: `agree`, `disagree` or `incomparable`; None until it is judged.
    """

    __tablename__ = "copies"
    __table_args__ = (Index("ix_copies_verdict_copy_id", "verdict", "copy_id"),)

    copy_id: Mapped[bytes] = mapped_column(primary_key=True)
    kind: Mapped[str]
    call_id: Mapped[bytes] = mapped_column(index=True)
    cluster_id: Mapped[str] = mapped_column(index=True)
    promotion_id: Mapped[int]
    slm: Mapped[str]
    model: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)
    outcome: Mapped[str]
    status: Mapped[int | None]
    duration_ms: Mapped[float]
    confidence: Mapped[float | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    answer: Mapped[bytes | None]
    verdict: Mapped[str | None]
    verdict_reason: Mapped[str | None]
    judged_at: Mapped[datetime | None]


class CostRow(Base):
    """Money that was spent on no call: training, evaluation.

    Attributes:
        cluster_id: whom it was spent on; None where that was all of them.
        figures: what it was reckoned from, by name.
    """

    __tablename__ = "costs"

    cost_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str]
    cluster_id: Mapped[str | None]
    usd: Mapped[float]
    figures: Mapped[dict[str, Any]]


class FeedbackRow(Base):
    """How somebody found a call's answer; the last word of each who said something.

    Attributes:
        actor: who, as the audit trail has it.
        score: in [-1, 1]; 1 is good.
        comment: encrypted by `repositories/feedback.py`; None where there was none, and where none is kept.
    """

    __tablename__ = "feedback"

    call_id: Mapped[bytes] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    score: Mapped[float]
    comment: Mapped[bytes | None]
    at: Mapped[datetime]


class SnapshotRow(Base):
    """A learned snapshot; its content is an artifact."""

    __tablename__ = "snapshots"

    snapshot_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]
    calls: Mapped[int]


class ClusterRow(Base):
    """A discovered task, as the active snapshot has it; the id lives on over snapshots.

    `label`, `contract` and `skeleton` quote prompts and answers: they are encrypted, by `repositories/clusters.py`.
    """

    __tablename__ = "clusters"

    cluster_id: Mapped[str] = mapped_column(primary_key=True)
    snapshot_id: Mapped[str] = mapped_column(index=True)
    label: Mapped[str]
    contract: Mapped[dict[str, Any]]
    skeleton: Mapped[str]
    calls: Mapped[int]
    conversations: Mapped[int]
    examples: Mapped[list[Any]]


class PromotionRow(Base):
    """Each promotion that ever was; the current one of a cluster has no end.

    Attributes:
        certificate_id: what it was granted on; None where it was forced, or serves nobody.
        min_confidence: an answer less sure is not served; None where no certificate says so.
        audit_share: of its served calls that the LLM answers too, as it is now; None: `UNDERSTUDY_AUDIT_SHARE`.
        asked_audit_share: the one that was asked for when it was made.
        in_doubt: of late it disagreed, or the LLM changed, and the LLM answers until agreements outweigh that.
    """

    __tablename__ = "promotions"
    __table_args__ = (
        Index(
            "uq_promotions_current",
            "cluster_id",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    promotion_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    cluster_id: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    stage: Mapped[str]
    share: Mapped[float]
    slm: Mapped[str]
    adapter: Mapped[str | None]
    max_context_tokens: Mapped[int | None]
    forced: Mapped[bool]
    reason: Mapped[str | None]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    certificate_id: Mapped[int | None]
    min_confidence: Mapped[float | None]
    audit_share: Mapped[float | None]
    asked_audit_share: Mapped[float | None]
    in_doubt: Mapped[bool] = mapped_column(default=False, server_default=false())


class WatchRow(Base):
    """What is known of a promotion since it was made. One writer: the learner.

    Attributes:
        conversations, failures: compared since then, of those that the SLM served or would have, and how many of them
            disagreed.
        audit: the JSON form of `router.learning.proof.audit.Audit`; it may have begun with an earlier promotion.
        drift: of the payloads, as `proxy/watch/payload_drift.py` keeps it; None where nothing was measured yet.
        shadow: what may become a certificate: `subject`, what it speaks of, and `copies`, one list for each: its
            conversation, its confidence or None, its verdict, when it was made.
    """

    __tablename__ = "watches"

    promotion_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster_id: Mapped[str]
    conversations: Mapped[int]
    failures: Mapped[int]
    audit: Mapped[dict[str, Any]]
    drift: Mapped[dict[str, Any] | None]
    shadow: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class CertificateRow(Base):
    """What was proved of an SLM on a cluster, passing or not; never changed. The newest of the two counts.

    Attributes:
        content: the JSON form of `router.certificate.Certificate`.
    """

    __tablename__ = "certificates"
    __table_args__ = (Index("ix_certificates_cluster_id_model", "cluster_id", "model"),)

    certificate_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    cluster_id: Mapped[str]
    model: Mapped[str]
    issued_at: Mapped[datetime]
    content: Mapped[dict[str, Any]]


class StageMoveRow(Base):
    """A step in an SLM's life on a cluster: who, when, why, and on which figures; never changed.

    Attributes:
        cause: a value of `router.promotion.Cause`.
        reason: why, in words; None where nobody gave any.
        figures: what was known when it was made, by name.
    """

    __tablename__ = "stage_moves"
    __table_args__ = (Index("ix_stage_moves_cluster_id_model", "cluster_id", "model"),)

    move_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    cluster_id: Mapped[str]
    model: Mapped[str]
    from_stage: Mapped[str]
    to_stage: Mapped[str]
    at: Mapped[datetime]
    actor: Mapped[str]
    cause: Mapped[str]
    reason: Mapped[str | None]
    figures: Mapped[dict[str, Any]]


class ModelRow(Base):
    """A registered SLM or adapter.

    Attributes:
        weights: hash of its files, base model and adapter; None where whoever registered it didn't say.
    """

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    slm: Mapped[str]
    adapter: Mapped[str | None]
    base: Mapped[str | None]
    max_context_tokens: Mapped[int | None]
    weights: Mapped[str | None]
    created_at: Mapped[datetime]


class AuditRow(Base):
    """Who did what, when."""

    __tablename__ = "audit"

    audit_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, Any]]


class KeyRow(Base):
    """A key of the proxy's own, for clients or for the admin API. The key itself is nowhere, only its hash.

    Attributes:
        key_hash: SHA-256 of the key: it is random and long, so there is nothing to guess.
        origin: as calls made with the key have it.
        role: in the admin API; None for a key that is for calls only.
        may_divert: whether an SLM may answer its calls.
        may_force: whether it may ask for the SLM (`x-understudy-route: slm`).
        max_log: how much of its calls is kept at most: a value of `UNDERSTUDY_LOG_BODIES`.
        allows_training: whether its calls may become training samples.
    """

    __tablename__ = "keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    origin: Mapped[bytes]
    role: Mapped[str | None]
    may_divert: Mapped[bool]
    may_force: Mapped[bool]
    max_log: Mapped[str]
    allows_training: Mapped[bool]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]


class State(Base):
    """Single values: `serving_version` grows with every change that workers must see; `active_snapshot`; `log_key`."""

    __tablename__ = "state"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


__all__ = [
    "AuditRow",
    "Base",
    "Block",
    "Call",
    "CertificateRow",
    "ClusterRow",
    "CopyRow",
    "CostRow",
    "FeedbackRow",
    "KeyRow",
    "ModelRow",
    "PromotionRow",
    "SharedPiece",
    "SnapshotRow",
    "StageMoveRow",
    "State",
    "WatchRow",
]

"""Bodies in blocks: what was compressed and encrypted one by one shares blocks with its neighbours"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
import zstandard
from alembic import context, op

from storage.bodies import CutBodies, Pieces, split
from storage.cipher import Cipher
from storage.database import WriteSession
from storage.repositories.pieces import PieceWriter

revision = "0003"
down_revision = "0002"

BATCH = 500
CALLS = sa.table(
    "calls",
    sa.column("call_id", sa.LargeBinary),
    sa.column("arrived_at", sa.DateTime(timezone=True)),
    sa.column("request_body", sa.LargeBinary),
    sa.column("response_body", sa.LargeBinary),
    sa.column("attempts", sa.JSON),
    sa.column("attempt_answers", sa.LargeBinary),
    sa.column("bodies_id", sa.BigInteger),
)
MESSAGES = sa.table("messages", sa.column("message_hash", sa.LargeBinary), sa.column("body", sa.LargeBinary))
DICTIONARIES = sa.table("dictionaries", sa.column("body", sa.LargeBinary))


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "blocks",
        sa.Column("first_id", number, autoincrement=False, nullable=False),
        sa.Column("pieces", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("size", number, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("first_id", name=op.f("pk_blocks")),
    )
    op.create_table(
        "shared_pieces",
        sa.Column("piece_hash", sa.LargeBinary(), nullable=False),
        sa.Column("piece_id", number, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("piece_hash", name=op.f("pk_shared_pieces")),
        sqlite_with_rowid=False,
    )
    op.add_column("calls", sa.Column("bodies_id", number, nullable=True))
    _convert(op.get_bind(), context.config.attributes["cipher"])
    with op.batch_alter_table("calls", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_calls_origin"))
        for column in ("request_body", "response_body", "attempt_answers"):
            batch_op.drop_column(column)
    op.drop_table("messages")
    op.drop_table("dictionaries")


def _convert(connection: sa.Connection, cipher: Cipher) -> None:
    """
    Raises:
        Undecipherable: the log is of another key, or damaged.
    """
    old = _OldBodies(connection, cipher)
    kept = sa.select(CALLS).where(CALLS.c.request_body.is_not(None)).order_by(CALLS.c.call_id).limit(BATCH)
    put = sa.update(CALLS).where(CALLS.c.call_id == sa.bindparam("id")).values(bodies_id=sa.bindparam("put"))
    last = b""
    with WriteSession(connection) as session:
        while calls := connection.execute(kept.where(CALLS.c.call_id > last)).all():
            last = calls[-1].call_id
            days = defaultdict(list)
            for call in calls:
                days[int(call.arrived_at.timestamp() // 86_400)].append(call)
            for day, some in days.items():
                bodies = old.read(some)
                with PieceWriter(session, cipher, day) as writer:
                    writer.look_up(bodies)
                    ids = [
                        {"id": call.call_id, "put": writer.add_bodies(its)}
                        for call, its in zip(some, bodies, strict=True)
                    ]
                connection.execute(put, ids)


class _OldBodies:
    """A body was a msgpack array of one array, whose items were literal bytes, or [hash] of a message."""

    def __init__(self, connection: sa.Connection, cipher: Cipher) -> None:
        self._connection = connection
        self._cipher = cipher
        dictionary = connection.scalar(sa.select(DICTIONARIES.c.body))  # there never was a second one
        known = None if dictionary is None else zstandard.ZstdCompressionDict(cipher.decrypt(dictionary))
        self._with_dictionary = zstandard.ZstdDecompressor(dict_data=known)
        self._without = zstandard.ZstdDecompressor()

    def read(self, calls: Sequence[sa.Row[Any]]) -> list[CutBodies]:
        messages: dict[bytes, bytes] = {}

        def message(message_hash: bytes) -> bytes:
            if message_hash not in messages:
                found = sa.select(MESSAGES.c.body).where(MESSAGES.c.message_hash == message_hash)
                messages[message_hash] = self._unpack(self._connection.scalars(found).one())
            return messages[message_hash]

        def body(packed: bytes | None) -> Pieces | None:
            if packed is None:
                return None
            [template] = msgspec.msgpack.decode(self._unpack(packed))
            return split(b"".join(message(part[0]) if isinstance(part, list) else part for part in template))

        return [
            CutBodies(
                body(call.request_body),
                body(call.response_body),
                [b""] * len(call.attempts)
                if call.attempt_answers is None
                else msgspec.msgpack.decode(self._unpack(call.attempt_answers)),
            )
            for call in calls
        ]

    def _unpack(self, data: bytes) -> bytes:
        frame = self._cipher.decrypt(data)
        has_dictionary = zstandard.get_frame_parameters(frame).dict_id
        return (self._with_dictionary if has_dictionary else self._without).decompress(frame, max_output_size=2**31)

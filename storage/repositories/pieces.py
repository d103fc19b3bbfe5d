"""The pieces that bodies are made of: numbered on and on through the log, kept in blocks.

A piece never gets another number; blocks are joined as the log grows, and lose what is to be forgotten. Calls refer to
the pieces of older days only as far back as `SHARED_DAYS`, which tells without a look at any call when a block is
needed by none any more.

A damaged block stays as it is: fresh ones go beside it, and only the calls that have a piece there can't be read. That
all blocks were damaged and that the key is another look the same from a block; so the log notes whose it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec
from sqlalchemy import Row, delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from storage.blocks import BLOCK_BYTES, seal, unseal
from storage.bodies import Bodies, CutBodies
from storage.cipher import Cipher, Undecipherable
from storage.database import ReadSession, WriteSession
from storage.models import Block, SharedPiece
from storage.repositories.state import is_log_of, set_log_key

SHARED_DAYS = 1
BATCH = 500
PROOFS = 10
_LOG_LOCK = 7318349394477057

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Bodies)


def lock_log(session: WriteSession) -> None:
    """Until the end of the transaction nobody else adds pieces or takes any away, and what others added is there."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LOG_LOCK})"))


def _check_key(session: ReadSession, cipher: Cipher) -> None:
    """
    Raises:
        Undecipherable: the log is not known to be of this key, so what can't be opened need not be damaged.
    """
    if not is_log_of(session, cipher.fingerprint):
        raise Undecipherable("it is damaged, or belongs to another key file")


def _claim(session: WriteSession, cipher: Cipher) -> None:
    """Note that the locked log is of this key: an empty one, or an older one of which some new block can be opened.

    Raises:
        Undecipherable: it is of another key.
    """
    ours = is_log_of(session, cipher.fingerprint)
    if ours:
        return
    newest = session.scalars(select(Block.data).order_by(Block.first_id.desc()).limit(PROOFS)).all()
    if newest and (ours is False or all(_open(cipher, data) is None for data in newest)):
        raise Undecipherable("the log belongs to another key file")
    set_log_key(session, cipher.fingerprint)


def _open(cipher: Cipher, data: bytes) -> list[bytes] | None:
    """A block's pieces; None when it is damaged."""
    try:
        return unseal(cipher, data)
    except Undecipherable:
        return None


class PieceWriter:
    """Adds the pieces of one day's calls at the end of the log, which must be locked. Blocks are written on leaving."""

    def __init__(
        self,
        session: WriteSession,
        cipher: Cipher,
        day: int,
        on_damaged: Callable[[int], None] = lambda first_id: None,
    ) -> None:
        """
        Args:
            day: on which the calls arrived, counted from 1970.
            on_damaged: gets the number of a block that pieces were to be put into, and that can't be opened.

        Raises:
            Undecipherable: the log is of another key.
        """
        self._session = session
        self._cipher = cipher
        self._day = day
        self._on_damaged = on_damaged
        self._known: dict[bytes, int] = {}
        self._fresh: list[dict[str, object]] = []
        self._pieces: list[bytes] = []
        self._size = 0
        _claim(session, cipher)
        last = self._last_block()
        self._first_id = 0 if last is None else last.first_id + last.pieces
        if last is not None and _open(cipher, last.data) is None:
            self._leave_alone(last.first_id, last.pieces)

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, error: object, trace: object) -> None:
        if failed is None:
            self._write_block()
            self._write_hashes()

    def look_up(self, bodies: Iterable[CutBodies]) -> None:
        """Find out which pieces of bodies that are to be added are in the log already."""
        by_hash = {_hash(self._cipher, piece): piece for some in bodies for piece in some.shared}
        hashes = list(by_hash)
        for start in range(0, len(hashes), BATCH):
            known = select(SharedPiece.piece_hash, SharedPiece.piece_id).where(
                SharedPiece.piece_hash.in_(hashes[start : start + BATCH]), SharedPiece.day >= self._day - SHARED_DAYS
            )
            self._known.update((by_hash[row.piece_hash], row.piece_id) for row in self._session.execute(known))

    def add_bodies(self, bodies: CutBodies) -> int:
        """Add a call's bodies; returns the number of the piece that holds them together."""
        request, response = (
            None if body is None else [self._share(piece) if shared else piece for piece, shared in body]
            for body in (bodies.request, bodies.response)
        )
        return self._add(_encoder.encode(Bodies(request, response, bodies.attempts)))

    def _share(self, piece: bytes) -> int:
        piece_id = self._known.get(piece)
        if piece_id is None:
            piece_id = self._known[piece] = self._add(piece)
            self._fresh.append({"piece_hash": _hash(self._cipher, piece), "piece_id": piece_id, "day": self._day})
        return piece_id

    def _add(self, piece: bytes) -> int:
        if self._size >= BLOCK_BYTES:
            self._write_block()
        self._pieces.append(piece)
        self._size += len(piece)
        return self._first_id + len(self._pieces) - 1

    def _write_block(self) -> None:
        """Write what there is, joined with the blocks before that are no larger.

        So a log that grows by a call at a time compresses as well as one that comes at once, and no piece is written
        often: its block doubles each time. A damaged block is joined with nothing.
        """
        if not self._pieces:
            return
        first_id, pieces, size = self._first_id, self._pieces, self._size
        self._first_id, self._pieces, self._size = first_id + len(pieces), [], 0
        while (
            (last := self._last_block()) is not None
            and last.day == self._day
            and last.first_id + last.pieces == first_id  # retention may have left a gap
            and last.size <= size
            and last.size + size <= BLOCK_BYTES
        ):
            before = _open(self._cipher, last.data)
            if before is None:
                self._leave_alone(last.first_id, last.pieces)
                break
            first_id, pieces, size = last.first_id, before + pieces, last.size + size
            self._session.execute(delete(Block).where(Block.first_id == first_id))
        row = {"first_id": first_id, "pieces": len(pieces), "day": self._day, "size": size}
        self._session.execute(insert(Block), [row | {"data": seal(self._cipher, pieces)}])

    def _leave_alone(self, first_id: int, pieces: int) -> None:
        """Let no later call refer to what is in a damaged block: one that says the same stores it anew."""
        lost = SharedPiece.piece_id.between(first_id, first_id + pieces - 1)
        self._session.execute(delete(SharedPiece).where(lost))
        self._on_damaged(first_id)

    def _write_hashes(self) -> None:
        """Tell later calls where to find the pieces; those that are too old for them are replaced."""
        if not self._fresh:
            return
        upsert = postgresql_insert if self._session.get_bind().dialect.name == "postgresql" else sqlite_insert
        fresh = upsert(SharedPiece)
        replace = {"piece_id": fresh.excluded.piece_id, "day": fresh.excluded.day}
        self._session.execute(fresh.on_conflict_do_update(index_elements=["piece_hash"], set_=replace), self._fresh)

    def _last_block(self) -> Row[int, int, int, int, bytes] | None:
        columns = select(Block.first_id, Block.pieces, Block.day, Block.size, Block.data)
        return self._session.execute(columns.order_by(Block.first_id.desc()).limit(1)).one_or_none()


def read_bodies(
    session: ReadSession, cipher: Cipher, ids: Collection[int], damaged: set[int] | None = None
) -> dict[int, Bodies]:
    """Bodies by the numbers of their pieces, read as `read_pieces` reads."""
    return {number: _decoder.decode(piece) for number, piece in read_pieces(session, cipher, ids, damaged).items()}


def read_pieces(
    session: ReadSession, cipher: Cipher, ids: Collection[int], damaged: set[int] | None = None
) -> dict[int, bytes]:
    """The pieces of these numbers; those that are gone are left out. Opens each block once, one at a time.

    Args:
        damaged: gets the numbers of those whose block is damaged, which are left out too. Without it, they raise.

    Raises:
        Undecipherable: damaged, or of another key.
    """
    return {
        piece_id: pieces[piece_id - first_id]
        for first_id, pieces, wanted in _open_blocks(session, cipher, ids, damaged)
        for piece_id in wanted
        if pieces[piece_id - first_id]
    }


def hide_pieces(session: WriteSession, cipher: Cipher, ids: Collection[int]) -> None:
    """Let no new call refer to pieces, in the locked log: one that says the same stores it anew."""
    for first_id, pieces, wanted in _open_blocks(session, cipher, ids):
        hashes = [_hash(cipher, pieces[piece_id - first_id]) for piece_id in wanted]
        for start in range(0, len(hashes), BATCH):
            some = SharedPiece.piece_hash.in_(hashes[start : start + BATCH])
            session.execute(delete(SharedPiece).where(some, SharedPiece.piece_id.in_(wanted[start : start + BATCH])))


def forget_pieces(session: WriteSession, cipher: Cipher, ids: Collection[int]) -> None:
    """Take hidden pieces out of their blocks, in the locked log; the numbers stay taken."""
    for first_id, pieces, wanted in _open_blocks(session, cipher, ids):
        for piece_id in wanted:
            pieces[piece_id - first_id] = b""
        left = {"size": sum(map(len, pieces)), "data": seal(cipher, pieces)}
        session.execute(update(Block).where(Block.first_id == first_id).values(left))


def _open_blocks(
    session: ReadSession, cipher: Cipher, ids: Collection[int], damaged: set[int] | None = None
) -> Iterator[tuple[int, list[bytes], list[int]]]:
    """The blocks that hold pieces of these numbers: (number of its first piece, its pieces, the numbers wanted).

    Damaged ones are left out where `damaged` is there to get the numbers wanted of them.
    """
    ordered = sorted(ids)
    start = 0
    while start < len(ordered):
        block = session.execute(
            select(Block.first_id, Block.pieces, Block.data)
            .where(Block.first_id <= ordered[start])
            .order_by(Block.first_id.desc())
            .limit(1)
        ).one_or_none()
        end = 0 if block is None else bisect_left(ordered, block.first_id + block.pieces, start)
        if block is not None and end > start:
            try:
                pieces = unseal(cipher, block.data)
            except Undecipherable:
                if damaged is None:
                    raise
                _check_key(session, cipher)
                damaged.update(ordered[start:end])
            else:
                yield block.first_id, pieces, ordered[start:end]
        start = max(end, start + 1)


def _hash(cipher: Cipher, piece: bytes) -> bytes:
    return cipher.keyed_hash(piece, b"pieces")

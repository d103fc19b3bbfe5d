"""Forgetting a credential: its calls, and what nobody else said.

Whether anybody else said it is looked for in the whole log, which takes long; so nothing is locked while it is, and
calls go on being added. Before the search the pieces are hidden from them: a new call that says the same stores it
anew, and refers to nothing that is on its way out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, select

from storage.cipher import Cipher
from storage.database import Database, ReadSession
from storage.models import Call
from storage.repositories.copies import delete_copies
from storage.repositories.feedback import delete_feedback
from storage.repositories.pieces import forget_pieces, hide_pieces, lock_log, read_bodies

BATCH = 500


class Forgetting:
    """The calls of one credential on their way out. `run` takes the steps in their order, each a batch at a time."""

    def __init__(self, database: Database, cipher: Cipher, origin: bytes, batch: int = BATCH) -> None:
        """
        Args:
            origin: hash of the credential; empty for calls that came without one. Imported calls have none either, but
                did not come to the proxy: they stay.
            batch: calls or pieces in one transaction.
        """
        self._database = database
        self._cipher = cipher
        self._theirs = (Call.origin == origin) & Call.source.is_(None)
        self._batch = batch
        self._calls: list[bytes] = []
        self._uses: Counter[int] = Counter()  # pieces that only their calls refer to, and how many do

    def run(self) -> int:
        """Forget, after any other forgetting that goes on; says how many calls there were.

        Two at once would each spare what the other is about to leave to nobody.

        Raises:
            Undecipherable: what they said lies in a damaged block, and can't be taken out of it; nothing is deleted.
            DatabaseDown: a part of the calls is deleted; asking again deletes the others.
        """
        with self._database.alone():
            self.collect()
            self.spare()
            return self.delete()

    def collect(self) -> None:
        """Find their calls and what these refer to, and hide it."""
        for call in self._read(self._theirs, None):
            self._calls.append(call.call_id)
            self._uses.update(call.references)
        pieces = iter(sorted(self._uses))
        while some := list(islice(pieces, self._batch)):
            with self._database.write() as session:
                lock_log(session)
                hide_pieces(session, self._cipher, some)

    def spare(self) -> None:
        """Look through all other calls for what is theirs too; what came before it can't refer to it.

        A call whose bodies lie in a damaged block can't be read any more: nothing is spared for it.
        """
        if self._uses:
            going = set(self._calls)
            for call in self._read(Call.bodies_id > min(self._uses), set()):
                if call.call_id not in going:
                    for reference in call.references:
                        del self._uses[reference]

    def delete(self) -> int:
        """Delete the calls, and each piece with the last of its calls; says how many calls there were."""
        deleted = 0
        going = iter(self._calls)
        while some := list(islice(going, self._batch)):
            with self._database.write() as session:
                lock_log(session)
                calls = self._find(session, Call.call_id.in_(some))
                gone = [call.bodies_id for call in calls if call.bodies_id is not None]
                gone += [reference for call in calls for reference in call.references if self._was_last(reference)]
                delete_copies(session, [call.call_id for call in calls])
                delete_feedback(session, [call.call_id for call in calls])
                session.execute(delete(Call).where(Call.call_id.in_([call.call_id for call in calls])))
                forget_pieces(session, self._cipher, gone)
            deleted += len(calls)
        return deleted

    def _was_last(self, reference: int) -> bool:
        """Take one use of a piece off; says whether only they used it, and this was the last."""
        if reference not in self._uses:
            return False
        self._uses[reference] -= 1
        return not self._uses[reference]

    def _read(self, which: ColumnElement[bool], damaged: set[int] | None) -> Iterator[_Found]:
        """Calls, a batch at a time, each in a transaction of its own; `damaged` as in `read_pieces`."""
        last = b""
        while True:
            with self._database.read() as session:
                calls = self._find(session, which & (Call.call_id > last), damaged)
            if not calls:
                return
            yield from calls
            last = calls[-1].call_id

    def _find(self, session: ReadSession, which: ColumnElement[bool], damaged: set[int] | None = None) -> list[_Found]:
        columns = select(Call.call_id, Call.bodies_id).where(which).order_by(Call.call_id).limit(self._batch)
        rows = session.execute(columns).all()
        ids = [row.bodies_id for row in rows if row.bodies_id is not None]
        bodies = read_bodies(session, self._cipher, ids, damaged)
        return [
            _Found(row.call_id, row.bodies_id, bodies[row.bodies_id].references if row.bodies_id in bodies else set())
            for row in rows
        ]


class _Found(NamedTuple):
    """A call, the number of its bodies, and those of the pieces that they refer to."""

    call_id: bytes
    bodies_id: int | None
    references: set[int]

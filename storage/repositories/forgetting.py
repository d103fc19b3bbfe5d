"""Forgetting a credential: its calls, and what nobody else said.

Whether anybody else said it is looked for in the whole log, which takes long; so nothing is locked while it is, and
calls go on being added. A call that is added notes in its messages that they are in use (`last_used_at`). Before the
search, the messages are made to look as if they had not been used for a day; whichever looks otherwise after it, is
somebody's again and stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import ColumnElement, Row, delete, select, update

from storage.bodies import Packer
from storage.cipher import Cipher
from storage.database import Database
from storage.models import Call, StoredMessage
from storage.repositories.calls import packer
from storage.repositories.retention import USED_GRANULARITY, hold_new_calls

BATCH = 500
_CLOCKS_DIFFER = timedelta(hours=1)  # of the machines that share a database, at most

_Bodies = Row[bytes, bytes | None, bytes | None]


class Forgetting:
    """The calls of one credential on their way out. `run` takes the steps in their order, each a batch at a time."""

    def __init__(self, database: Database, cipher: Cipher, origin: bytes, batch: int = BATCH) -> None:
        """
        Args:
            origin: hash of the credential; empty for calls that came without one. Imported calls have none either, but
                did not come to the proxy: they stay.
            batch: calls or messages in one transaction.
        """
        self._database = database
        self._cipher = cipher
        self._theirs = (Call.origin == origin) & Call.source.is_(None)
        self._batch = batch
        self._calls: list[bytes] = []
        self._uses: Counter[bytes] = Counter()  # messages that only their calls refer to, and how many do
        self._unused_since = datetime.now(UTC) - USED_GRANULARITY - _CLOCKS_DIFFER

    def run(self) -> int:
        """Forget; says how many calls there were.

        Raises:
            DatabaseDown: a part of the calls is deleted; asking again deletes the others.
        """
        self.collect()
        self.spare()
        return self.delete()

    def collect(self) -> None:
        """Find their calls and what these refer to, which is from now on in use by those only that say so."""
        for rows, pack in self._read(self._theirs):
            self._calls += [row.call_id for row in rows]
            self._uses.update(reference for row in rows for reference in _references(row, pack))
        messages = iter(list(self._uses))
        while some := list(islice(messages, self._batch)):
            with self._database.write() as session:
                hold_new_calls(session)
                used = StoredMessage.message_hash.in_(some) & (StoredMessage.last_used_at > self._unused_since)
                session.execute(update(StoredMessage).where(used).values(last_used_at=self._unused_since))

    def spare(self) -> None:
        """Look through everybody else's calls for what is theirs too."""
        if self._uses:
            for rows, pack in self._read(~self._theirs):
                for row in rows:
                    for reference in _references(row, pack):
                        del self._uses[reference]

    def delete(self) -> int:
        """Delete the calls, and each message with the last of its calls; says how many calls there were."""
        deleted = 0
        calls = iter(self._calls)
        while some := list(islice(calls, self._batch)):
            with self._database.write() as session:
                hold_new_calls(session)
                pack = packer(session, self._cipher)
                rows = session.execute(_BODIES.where(Call.call_id.in_(some))).all()
                gone = [reference for row in rows for reference in _references(row, pack) if self._was_last(reference)]
                session.execute(delete(Call).where(Call.call_id.in_([row.call_id for row in rows])))
                for start in range(0, len(gone), BATCH):
                    session.execute(
                        delete(StoredMessage).where(
                            StoredMessage.message_hash.in_(gone[start : start + BATCH]),
                            StoredMessage.last_used_at <= self._unused_since,
                        )
                    )
            deleted += len(rows)
        return deleted

    def _was_last(self, reference: bytes) -> bool:
        """Take one use of a message off; says whether only they used it, and this was the last."""
        if reference not in self._uses:
            return False
        self._uses[reference] -= 1
        return not self._uses[reference]

    def _read(self, which: ColumnElement[bool]) -> Iterator[tuple[Sequence[_Bodies], Packer]]:
        """Calls with their bodies, a batch at a time, each in a transaction of its own."""
        last = b""
        while True:
            with self._database.read() as session:
                rows = session.execute(_BODIES.where(which, Call.call_id > last).limit(self._batch)).all()
                if not rows:
                    return
                yield rows, packer(session, self._cipher)
                last = rows[-1].call_id


_BODIES = select(Call.call_id, Call.request_body, Call.response_body).order_by(Call.call_id)


def _references(row: _Bodies, pack: Packer) -> set[bytes]:
    bodies = (body for body in (row.request_body, row.response_body) if body is not None)
    return {reference for body in bodies for reference in pack.references(body)}

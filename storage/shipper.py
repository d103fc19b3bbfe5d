"""Segments → database. Nothing is deleted before the commit, and the call id makes repetition harmless.

A segment is taken when its writer has let go of it (put aside, ended or killed: the lock says so). Whatever the
database answers, the segment stays until it was taken. What can never be taken is set aside in `quarantine/`: the calls
that the database refuses, in a segment of their own, and damaged segments. Moved back into the spool, they are tried
again.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown, RowRefused, StorageError
from storage.frame import Damage
from storage.ids import format_call_id
from storage.records import CallFacts, CallRecord, CopyFacts, CopyRecord
from storage.repositories.calls import insert_calls
from storage.repositories.copies import insert_copies
from storage.spool import Record, decode_segment, segments, write_segment

log = structlog.get_logger()

BATCH = 500
IDLE_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
QUARANTINE = "quarantine"

Shipped = Sequence[tuple[CallRecord, CallFacts]]
ShippedCopies = Sequence[tuple[CopyRecord, CopyFacts]]


class Shipper:
    """Takes segments one after the other. Several may run: a segment is locked while it is taken."""

    def __init__(
        self,
        spool_dir: Path,
        database: Database,
        cipher: Cipher,
        *,
        read_facts: Callable[[CallRecord], CallFacts],
        on_shipped: Callable[[Shipped], None],
        on_set_aside: Callable[[int], None] = lambda calls: None,
        read_copy: Callable[[CopyRecord], CopyFacts] = lambda copy: CopyFacts(),
        on_copies_shipped: Callable[[ShippedCopies], None] = lambda copies: None,
    ) -> None:
        """
        Args:
            read_facts: leaves out what it can't read; a call that it raises on is shipped without facts.
            on_shipped: gets the calls that are new in the database, after the commit.
            read_copy, on_copies_shipped: the same for copies.
            on_set_aside: gets the number of calls that went into quarantine; a damaged place counts as one.
        """
        self._spool_dir = spool_dir
        self._database = database
        self._cipher = cipher
        self._read_facts = read_facts
        self._on_shipped = on_shipped
        self._on_set_aside = on_set_aside
        self._read_copy = read_copy
        self._on_copies_shipped = on_copies_shipped
        self._schema_ready = False
        self._damaged: set[int] = set()  # blocks that were complained of

    def ship_once(self) -> int:
        """Take every segment that is free.

        Returns:
            How many calls were new.

        Raises:
            StorageError: the database is away, or its contents can't be read; what was not taken is still there.
            OSError: a segment could not be read or set aside; the others were taken.
        """
        new, failed = 0, None
        for path in segments(self._spool_dir):
            try:
                new += self._ship_segment(path)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed
        return new

    def run(self, stop: threading.Event) -> None:
        """Ship until told to stop, then once more for what came last."""
        backoff = IDLE_SECONDS
        complained = False
        while True:
            last_round = stop.is_set()
            try:
                self.ship_once()
                backoff, complained = IDLE_SECONDS, False
            except DatabaseDown as error:
                if not complained:
                    log.warning("shipper.waiting", error=str(error))
                complained = True
                self._schema_ready = False  # it may come back as another, empty one
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            except (StorageError, OSError) as error:
                log.error("shipper.failed", error=str(error))
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            if last_round:
                return
            stop.wait(backoff)

    def _ship_segment(self, path: Path) -> int:
        with _locked(path) as data:
            if data is None:
                return 0
            damage = Damage()
            records = list(decode_segment(data, self._cipher, damage))
            if damage.torn_bytes or damage.corrupt_bytes:
                log.warning("segment.damaged", path=path.name, torn=damage.torn_bytes, corrupt=damage.corrupt_bytes)
            new = 0
            refused: list[Record] = []
            for start in range(0, len(records), BATCH):
                new += self._ship_batch(records[start : start + BATCH], refused)
            if damage.corrupt_bytes or refused:
                self._set_aside(path, refused, whole=damage.corrupt_bytes > 0)
                self._on_set_aside(damage.corrupt_places + len(refused))
            else:
                path.unlink(missing_ok=True)
            return new

    def _ship_batch(self, records: list[Record], refused: list[Record]) -> int:
        """How many calls were new; the records that the database refuses join `refused`."""
        calls = [(record, self._facts(record)) for record in records if isinstance(record, CallRecord)]
        copies = [(record, self._copy_facts(record)) for record in records if isinstance(record, CopyRecord)]
        if not self._schema_ready:
            self._database.upgrade(self._cipher)
            self._schema_ready = True
        try:
            with self._database.write() as session:
                new = insert_calls(session, self._cipher, calls, self._pass_by)
                new_copies = insert_copies(session, self._cipher, copies)  # after their calls
        except RowRefused as error:
            if len(records) > 1:  # find it, and let its neighbours pass
                half = len(records) // 2
                return self._ship_batch(records[:half], refused) + self._ship_batch(records[half:], refused)
            log.error("call.refused", call=format_call_id(records[0].call_id), error=str(error))
            refused += records
            return 0
        fresh = [call for call, is_new in zip(calls, new, strict=True) if is_new]
        fresh_copies = [copy for copy, is_new in zip(copies, new_copies, strict=True) if is_new]
        if fresh:
            self._tell(lambda: self._on_shipped(fresh), len(fresh))
        if fresh_copies:
            self._tell(lambda: self._on_copies_shipped(fresh_copies), len(fresh_copies))
        return len(fresh)

    def _pass_by(self, block: int) -> None:
        """Say once of a damaged block that its calls can't be read; new ones go beside it."""
        if block not in self._damaged:
            self._damaged.add(block)
            log.warning("block.damaged", block=block)

    def _facts(self, record: CallRecord) -> CallFacts:
        try:
            return self._read_facts(record)
        except Exception:  # one odd body must not hold up what is behind it
            log.exception("call.not_read", call=format_call_id(record.call_id))
            return CallFacts()

    def _copy_facts(self, record: CopyRecord) -> CopyFacts:
        try:
            return self._read_copy(record)
        except Exception:  # as with calls
            log.exception("copy.not_read", call=format_call_id(record.call_id))
            return CopyFacts()

    def _tell(self, tell: Callable[[], None], number: int) -> None:
        try:
            tell()
        except Exception:  # they are in the database: what is behind them must get there too
            log.exception("calls.not_counted", calls=number)

    def _set_aside(self, path: Path, refused: list[Record], *, whole: bool) -> None:
        """Keep what was not taken for a person to look at: the refused calls, or the whole of a damaged segment."""
        quarantine = self._spool_dir / QUARANTINE
        quarantine.mkdir(exist_ok=True, mode=0o700)
        if whole:
            path.rename(quarantine / path.name)
        else:
            write_segment(quarantine / path.name, self._cipher, refused)
            path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[bytes | None]:
    """A segment's bytes while nobody else has it; None when somebody has, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another shipper may have had it between our listing and our lock.
        yield path.read_bytes() if path.exists() else None
    except BlockingIOError:
        yield None
    finally:
        os.close(descriptor)

"""The worker's side of the log: one framed, checksummed append per call, to a segment file of its own.

An append is one write(2): when it returns, the record survives the death of the process. Against the death of the
machine a background thread calls fsync twice a second for all records since (group commit). The same thread puts a
segment aside once it is a second old, so that the records of a quiet worker reach the database too.

A segment file is flock-ed by its writer for as long as it is written to. Whoever gets the lock, the shipper, knows that
no more records will come, however the writer ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from storage.cipher import Cipher
from storage.errors import SpoolFull
from storage.frame import SALT_BYTES, Damage, Sealer, scan
from storage.privacy import make_private_directory
from storage.records import CallRecord, CopyRecord

log = structlog.get_logger()

SEGMENT_SUFFIX = ".seg"
_COPY_BYTES = 2**20

#: What a segment's frames hold.
Record = CallRecord | CopyRecord
_call_decoder = msgspec.msgpack.Decoder(CallRecord)
_copy_decoder = msgspec.msgpack.Decoder(CopyRecord)
_MAPS = frozenset(bytes([first]) for first in (*range(0x80, 0x90), 0xDE, 0xDF))


class Spool:
    """Appends the records of one process. Safe to share between threads, not over a fork."""

    def __init__(
        self,
        directory: Path,
        cipher: Cipher,
        *,
        segment_bytes: int = 32 * 2**20,
        segment_seconds: float = 1.0,
        sync_interval_seconds: float = 0.5,
    ) -> None:
        """Start the background thread; the first segment is made by the first append.

        Args:
            segment_bytes: a segment that has grown beyond this is put aside.
            segment_seconds: so is one that was begun longer ago than this and isn't empty.
        """
        self._directory = directory
        self._cipher = cipher
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._sync_interval_seconds = sync_interval_seconds
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = threading.Lock()
        self._segment: _Segment | None = None
        self._aside: list[_Segment] = []  # still to be synced and closed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_synced, name="spool-sync", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Log one call or copy: about 12 µs for 3 KB, 100 µs for 100 KB.

        Raises:
            SpoolFull: nothing was appended; the next append tries again.
        """
        plain = self._encoder.encode(record)
        with self._lock:
            if self._closed.is_set():
                raise SpoolFull(f"the spool in {self._directory} is closed")
            try:
                if self._segment is None:
                    self._segment = _Segment(self._directory, self._cipher)
                self._segment.append(plain)
            except OSError as error:
                raise SpoolFull(f"a call can't be logged in {self._directory}: {error.strerror or error}") from error
            finally:
                segment = self._segment
                if segment is not None and (segment.broken or segment.written_bytes >= self._segment_bytes):
                    self._aside.append(segment)
                    self._segment = None

    def close(self) -> None:
        """Sync everything and let go of the segment, so that it can be shipped."""
        with self._lock:
            self._closed.set()
        self._thread.join()

    def _keep_synced(self) -> None:
        while not self._closed.wait(self._sync_interval_seconds):
            self._sync()
        self._sync()

    def _sync(self) -> None:
        """fsync what was written; outside the lock, so that no append ever waits for the disk."""
        with self._lock:
            segment = self._segment
            if segment is not None and (segment.is_due(self._segment_seconds) or self._closed.is_set()):
                self._aside.append(segment)
                segment = self._segment = None
            aside, self._aside = self._aside, []
        if segment is not None:
            with contextlib.suppress(OSError):  # tried again, and logged, when it is put aside
                segment.sync()
        for segment in aside:
            try:
                segment.sync()
                segment.close()
            except OSError as error:
                log.error("segment.not_closed", path=str(segment.path), error=str(error))
                with self._lock:
                    self._aside.append(segment)


class _Segment:
    """A segment file while it is written to."""

    def __init__(self, directory: Path, cipher: Cipher) -> None:
        """Make and lock the file. It gets its proper name only when it is locked, or the shipper might take it first.

        Raises:
            OSError
        """
        make_private_directory(directory)
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        self.path = directory / (name + SEGMENT_SUFFIX)
        self.written_bytes = 0
        self.broken = False
        self._synced_bytes = 0
        self._begun = time.monotonic()
        self._sealer = Sealer(cipher, secrets.token_bytes(SALT_BYTES))
        draft = directory / f".{name}"
        self._file = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(draft, self.path)
        except OSError:
            os.close(self._file)
            draft.unlink(missing_ok=True)
            raise

    def append(self, plain: bytes) -> None:
        """Write one frame in one call, or leave the file as it was.

        Raises:
            OSError: most likely ENOSPC.
        """
        frame = self._sealer.seal(plain)
        try:
            written = os.write(self._file, frame)
            if written != len(frame):
                written += os.write(self._file, frame[written:])  # says why; a signal's short write is completed
            if written != len(frame):
                raise OSError(f"only {written} of {len(frame)} bytes could be written")
        except OSError:
            try:
                os.ftruncate(self._file, self.written_bytes)
            except OSError:
                self.broken = True  # the half frame stays; readers step over it
            raise
        self.written_bytes += written

    def is_due(self, seconds: float) -> bool:
        """Whether there is something to ship that has waited long enough."""
        return self.written_bytes > 0 and time.monotonic() - self._begun >= seconds

    def sync(self) -> None:
        """Make sure of what was written up to now.

        Raises:
            OSError: the data are in the page cache still.
        """
        written = self.written_bytes
        if written > self._synced_bytes:
            os.fsync(self._file)
            self._synced_bytes = written

    def close(self) -> None:
        """Unlock the file; an empty one is removed, one that somebody deleted is put back.

        Raises:
            OSError: it could not be put back.
        """
        if not self.written_bytes:
            self.path.unlink(missing_ok=True)
        elif os.fstat(self._file).st_nlink == 0:
            self._put_back()
        os.close(self._file)

    def _put_back(self) -> None:
        """Copy the deleted file, which lives for as long as it is open, to its old name."""
        make_private_directory(self.path.parent)
        draft = self.path.with_name("." + self.path.stem)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
            offset = 0
            while piece := os.pread(self._file, _COPY_BYTES, offset):
                copy.write(piece)
                offset += len(piece)
            copy.flush()
            os.fsync(copy.fileno())
        draft.rename(self.path)


def segments(directory: Path) -> list[Path]:
    """The segment files of a spool, oldest first."""
    return sorted(directory.glob("*" + SEGMENT_SUFFIX))


def decode_segment(data: bytes, cipher: Cipher, damage: Damage) -> Iterator[Record]:
    """Read the records in a segment's bytes; what can't be read is counted in `damage`."""
    for plain in scan(data, cipher, damage):
        try:
            yield _copy_decoder.decode(plain) if _is_map(plain) else _call_decoder.decode(plain)
        except msgspec.DecodeError:
            damage.corrupt_bytes += len(plain)
            damage.corrupt_places += 1


def _is_map(plain: bytes) -> bool:
    """Whether a frame holds a msgpack map, as copies are, and no array, as calls are."""
    return plain[:1] in _MAPS


def write_segment(path: Path, cipher: Cipher, records: Sequence[Record]) -> None:
    """Make a whole segment at once, in the place of an older one of that name.

    Raises:
        OSError
    """
    sealer = Sealer(cipher, secrets.token_bytes(SALT_BYTES))
    draft = path.with_name("." + path.stem)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for record in records:
            file.write(sealer.seal(msgspec.msgpack.encode(record)))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def read_segment(path: Path, cipher: Cipher) -> Iterator[CallRecord]:
    """Read a segment's calls in the order of their appends.

    Stops at a torn record, steps over a damaged one. A segment that is still written to gives what it has.

    Raises:
        FileNotFoundError
    """
    return (one for one in decode_segment(path.read_bytes(), cipher, Damage()) if isinstance(one, CallRecord))


def spool_usage(directory: Path) -> tuple[int, float]:
    """How much is waiting to be shipped.

    Returns:
        (bytes in all segments, seconds since the oldest one that holds a record was begun; 0.0 where there is none).
    """
    total, oldest_ns = 0, None
    for path in segments(directory):
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        if size and oldest_ns is None:
            oldest_ns = int(path.name.partition("-")[0])
        total += size
    return total, 0.0 if oldest_ns is None else max(0.0, (time.time_ns() - oldest_ns) / 1e9)

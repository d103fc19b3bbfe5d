import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.cipher import Cipher
from storage.errors import KeyFileUnusable, SpoolFull
from storage.spool import Spool, read_segment, segments, spool_usage
from tests.storage.conftest import make_record


def test_what_was_appended_is_read_in_order(tmp_path: Path, cipher: Cipher) -> None:
    spool = Spool(tmp_path / "spool", cipher)
    records = [make_record(os.urandom(size)) for size in (0, 1, 3_000, 200_000, 5)]
    for record in records:
        spool.append(record)
    spool.close()
    [segment] = segments(tmp_path / "spool")
    assert list(read_segment(segment, cipher)) == records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_a_torn_segment_gives_every_whole_record(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tmp_path = tmp_path_factory.mktemp("torn")
    cipher = Cipher(b"k" * 32)
    spool = Spool(tmp_path, cipher)
    records = [make_record(bytes([i]) * (i * 37)) for i in range(5)]
    ends = []
    for record in records:
        spool.append(record)
        ends.append(spool_usage(tmp_path)[0])
    spool.close()
    [segment] = segments(tmp_path)
    whole = segment.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    segment.write_bytes(whole[:cut])
    assert list(read_segment(segment, cipher)) == records[: sum(end <= cut for end in ends)]


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_byte_costs_one_record_at_most(
    tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("damage")
    cipher = Cipher(b"k" * 32)
    spool = Spool(tmp_path, cipher)
    records = [make_record(bytes([i]) * 50) for i in range(6)]
    for record in records:
        spool.append(record)
    spool.close()
    [segment] = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[int(place * len(data))] ^= flip
    segment.write_bytes(data)
    read = list(read_segment(segment, cipher))
    assert len(read) == 5
    assert [record for record in records if record in read] == read


WRITER = """
import sys
from pathlib import Path
from storage.cipher import Cipher
from storage.spool import Spool
from tests.storage.conftest import make_record
spool = Spool(Path(sys.argv[1]), Cipher(b"k" * 32))
while True:
    spool.append(make_record(b"x" * 2000))
    print("appended", flush=True)
"""


def test_a_killed_writer_loses_no_appended_record(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(200):
        writer.stdout.readline()
    writer.kill()
    acknowledged = 200 + len(writer.stdout.read().splitlines())
    writer.wait()
    writer.stdout.close()
    read = [record for path in segments(tmp_path) for record in read_segment(path, Cipher(b"k" * 32))]
    assert acknowledged <= len(read) <= acknowledged + 1


def test_a_quiet_writer_puts_its_records_aside_within_seconds(tmp_path: Path, cipher: Cipher) -> None:
    spool = Spool(tmp_path / "spool", cipher, segment_seconds=0.1, sync_interval_seconds=0.05)
    spool.append(make_record())
    time.sleep(0.5)
    spool.append(make_record())
    assert len(segments(tmp_path / "spool")) == 2
    spool.close()


def test_a_full_disk_is_said_and_got_over(tmp_path: Path, cipher: Cipher) -> None:
    import resource
    import signal

    spool = Spool(tmp_path / "spool", cipher)
    spool.append(make_record())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(SpoolFull, match="can't be logged"):
            spool.append(make_record(b"x" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    spool.append(make_record())
    spool.close()
    assert sum(1 for path in segments(tmp_path / "spool") for _ in read_segment(path, cipher)) == 2


def test_a_lost_key_is_an_error_and_not_a_new_key(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", Cipher.open(tmp_path))
    spool.append(make_record())
    spool.close()
    (tmp_path / "encryption.key").unlink()
    with pytest.raises(KeyFileUnusable):
        Cipher.open(tmp_path)


def test_the_key_file_is_private(tmp_path: Path) -> None:
    Cipher.open(tmp_path)
    assert (tmp_path / "encryption.key").stat().st_mode & 0o777 == 0o600

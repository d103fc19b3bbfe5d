"""A full disk is the only way to lose the log of a call: serving goes on, and the loss is counted and ends with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, Serve, wait_for

DISK_BYTES = 8 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left, to the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert os.statvfs(disk).f_bavail == 0
    return filler


def ask(proxy: Proxy, count: int, size: int = 500) -> set[str]:
    """Calls that must be answered; their ids."""
    with httpx.Client(timeout=10) as client:
        answers = [
            client.post(
                f"{proxy.base_url}/chat/completions",
                json={"model": "gpt-4o", "messages": [{"role": "user", "content": os.urandom(size // 2).hex()}]},
            )
            for _ in range(count)
        ]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-understudy-call-id"] for answer in answers}


def logged(proxy: Proxy) -> set[str]:
    return {call["call_id"] for call in proxy.admin("GET", "/calls?limit=500").json()["data"]}


def test_a_full_disk_stops_the_log_and_nothing_else(small_disk: Path, serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(data_dir=small_disk / "data", upstream_url=upstream.base_url)
    early = ask(proxy, 10)
    wait_for(lambda: early <= logged(proxy))

    filler = fill(small_disk)
    during = ask(proxy, 30, size=20_000)
    assert httpx.get(f"{proxy.root}/readyz").status_code == 200
    lost = proxy.metric("understudy_calls_lost_total")
    assert lost > 0

    filler.unlink()
    late = ask(proxy, 10)
    wait_for(lambda: late <= logged(proxy))
    wait_for(lambda: len(logged(proxy)) == 50 - lost)
    assert len(logged(proxy) & during) == 30 - lost
    assert proxy.metric("understudy_calls_lost_total") == lost
    assert not (proxy.data_dir / "spool" / "quarantine").exists()


def test_the_shipper_keeps_what_the_databases_disk_has_no_room_for(
    small_disk: Path, serve: Serve, upstream: ReplayUpstream
) -> None:
    database = small_disk / "understudy.db"
    proxy = serve(upstream_url=upstream.base_url, database_url=f"sqlite:///{database}")
    early = ask(proxy, 5)
    wait_for(lambda: early <= logged(proxy))
    filler = fill(small_disk)
    during = ask(proxy, 20, size=20_000)
    assert proxy.metric("understudy_calls_lost_total") == 0
    wait_for(lambda: "shipper.waiting" in proxy.errors.read_text())
    assert list((proxy.data_dir / "spool").glob("*.seg"))
    filler.unlink()
    wait_for(lambda: early | during <= logged(proxy))
    wait_for(lambda: not list((proxy.data_dir / "spool").glob("*.seg")))  # a segment goes after its calls have come

"""No answered call is lost: killed workers, killed machines, a database that is locked, gone or read-only, restarts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, Serve, wait_for
from tests.postgresql import PostgreSQL

CLIENTS = 6


def ask(client: httpx.Client, proxy: Proxy, number: int, *, stream: bool = False) -> str | None:
    """Send one call; its id if the whole answer arrived, else None."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"Call {number}"}], "stream": stream}
    try:
        answer = client.post(f"{proxy.base_url}/chat/completions", json=body)
    except httpx.HTTPError:
        return None
    whole = answer.status_code == 200 and (not stream or answer.content.endswith(b"data: [DONE]\n\n"))
    return answer.headers["x-understudy-call-id"] if whole else None


def ask_many(proxy: Proxy, count: int) -> set[str]:
    """Calls one after the other, each of which must be answered, although nothing else may work."""
    with httpx.Client(timeout=10) as client:
        answered = {ask(client, proxy, number, stream=number % 2 == 0) for number in range(count)}
    assert None not in answered
    assert len(answered) == count
    return {call_id for call_id in answered if call_id is not None}


class Load:
    """Clients that call without a pause until they are stopped.

    Attributes:
        answered: ids of calls whose whole answer a client has.
        unanswered: calls that failed, because their worker was killed.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.answered: list[str] = []
        self.unanswered = 0
        self._proxy = proxy
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, client_number: int) -> None:
        number = client_number
        while not self._stop.is_set():
            # A new connection each time spreads the calls over the workers.
            with httpx.Client(timeout=10) as client:
                call_id = ask(client, self._proxy, number, stream=number % 2 == 0)
            number += CLIENTS
            if call_id is None:
                self.unanswered += 1
            else:
                self.answered.append(call_id)
            time.sleep(0.02)  # enough calls to be in the middle of some, not so many that reading the log takes long

    def has_answered(self, more: int) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answered) + more
        wait_for(lambda: len(self.answered) >= wanted)


def logged(proxy: Proxy) -> dict[str, dict[str, Any]]:
    """All calls in the log, by id; none twice."""
    found: dict[str, dict[str, Any]] = {}
    before = ""
    while True:
        answer = proxy.admin("GET", f"/calls?limit=500{before}")
        if answer.status_code == 503:  # the database is away
            return found
        page = answer.json()
        for call in page["data"]:
            assert call["call_id"] not in found
            found[call["call_id"]] = call
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


def await_logged(proxy: Proxy, answered: set[str]) -> dict[str, dict[str, Any]]:
    """Wait until all these calls are in the log."""
    found: dict[str, dict[str, Any]] = {}

    def there() -> bool:
        nonlocal found
        time.sleep(0.3)  # the log is read whole each time
        found = logged(proxy)
        return answered <= found.keys()

    wait_for(there)
    return found


def test_kill_minus_nine_of_workers_under_load_loses_no_answered_call(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(workers=2, upstream_url=upstream.base_url)
    with Load(proxy) as load:
        for _ in range(3):
            load.has_answered(60)
            proxy.children("worker")[0].send_signal(signal.SIGKILL)
        load.has_answered(60)
    found = await_logged(proxy, set(load.answered))
    assert len(set(load.answered)) == len(load.answered)
    finished = {call_id for call_id, call in found.items() if call["complete"] and call["status"] == 200}
    # A record is written before its answer's end is sent: a worker killed in between leaves one that nobody received.
    assert set(load.answered) <= finished
    assert len(finished) - len(load.answered) <= load.unanswered
    assert load.unanswered <= 3 * CLIENTS + 3


def test_a_machine_that_dies_loses_no_answered_call(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(workers=2, upstream_url=upstream.base_url)
    with Load(proxy) as load:
        load.has_answered(100)
        proxy.kill()
    again = serve(data_dir=proxy.data_dir, upstream_url=upstream.base_url)
    await_logged(again, set(load.answered))


def test_a_killed_shipper_is_replaced_and_ships_nothing_twice(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    with Load(proxy) as load:
        for _ in range(2):
            load.has_answered(40)
            [shipper] = proxy.children("shipper")
            shipper.send_signal(signal.SIGKILL)
            wait_for(lambda gone=shipper: [c.pid for c in proxy.children("shipper")] not in ([], [gone.pid]))
    found = await_logged(proxy, set(load.answered))
    assert (load.unanswered, len(found)) == (0, len(load.answered))


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the database, as a stuck writer does."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_database_holds_up_nobody(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    early = ask_many(proxy, 4)
    await_logged(proxy, early)
    with locked(proxy.data_dir / "understudy.db"):
        begun = time.monotonic()
        late = ask_many(proxy, 20)
        assert time.monotonic() - begun < 5
        assert httpx.get(f"{proxy.root}/readyz").status_code == 200
        time.sleep(7)  # beyond the shipper's own patience with a lock
        late |= ask_many(proxy, 4)
    assert logged(proxy).keys() >= early
    await_logged(proxy, early | late)


def test_a_deleted_database_holds_up_nobody_and_is_made_anew(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    await_logged(proxy, ask_many(proxy, 4))
    for file in proxy.data_dir.glob("understudy.db*"):
        file.unlink()
    late = ask_many(proxy, 20)
    assert httpx.get(f"{proxy.root}/readyz").status_code == 200
    await_logged(proxy, late)


def test_a_deleted_data_directory_holds_up_nobody_and_comes_back_private(
    serve: Serve, upstream: ReplayUpstream
) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    await_logged(proxy, ask_many(proxy, 4))  # the shipper, too, has started
    shutil.rmtree(proxy.data_dir.rename(proxy.data_dir.with_name("gone")))  # at once, whatever is written meanwhile
    wait_for(lambda: len(ask_many(proxy, 1)) == 1 and proxy.data_dir.exists())
    assert stat.S_IMODE(proxy.data_dir.stat().st_mode) == 0o700
    scrape = httpx.get(f"{proxy.root}/metrics")
    assert (scrape.status_code, scrape.json()["error"]["code"]) == (503, "service_unavailable")
    assert "directory was deleted" in scrape.json()["error"]["message"]


def test_a_read_only_database_keeps_calls_in_the_spool(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    early = ask_many(proxy, 4)
    await_logged(proxy, early)
    proxy.stop()
    # Permissions don't bind root, so the connection is what can't write.
    read_only = f"sqlite:///file:{proxy.data_dir / 'understudy.db'}?mode=ro&uri=true"
    proxy = serve(data_dir=proxy.data_dir, upstream_url=upstream.base_url, database_url=read_only)
    late = ask_many(proxy, 20)
    assert httpx.get(f"{proxy.root}/readyz").status_code == 200
    assert proxy.stop() == 0
    proxy = serve(data_dir=proxy.data_dir, upstream_url=upstream.base_url)
    await_logged(proxy, early | late)


def test_calls_left_in_the_spool_are_shipped_by_the_next_start(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    await_logged(proxy, ask_many(proxy, 2))
    with locked(proxy.data_dir / "understudy.db"):
        left = ask_many(proxy, 20)
        proxy.kill()
    assert any(file.stat().st_size for file in (proxy.data_dir / "spool").iterdir())
    again = serve(data_dir=proxy.data_dir, upstream_url=upstream.base_url)
    await_logged(again, left)
    wait_for(lambda: again.metric("understudy_spool_bytes") == 0)


def test_sigterm_lets_a_running_stream_end(serve: Serve) -> None:
    slow = ReplayUpstream(answerer=lambda request: "word " * 40, token_seconds=0.4)
    slow.start()
    proxy = serve(upstream_url=slow.base_url, drain_seconds="20")
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, timeout=20) as answer:
        pieces = answer.iter_raw()
        content = next(pieces)
        os.kill(proxy.process.pid, signal.SIGTERM)
        content += b"".join(pieces)
    slow.stop()
    assert content.endswith(b"data: [DONE]\n\n")
    assert proxy.process.wait(30) == 0
    again = serve(data_dir=proxy.data_dir, upstream_url=slow.base_url)
    found = await_logged(again, {answer.headers["x-understudy-call-id"]})
    assert [(call["ended"], call["complete"]) for call in found.values()] == [("finished", True)]


def test_a_call_that_outlives_the_drain_is_logged_as_cut(serve: Serve) -> None:
    slow = ReplayUpstream(answerer=lambda request: "word " * 40, token_seconds=8)
    slow.start()
    proxy = serve(upstream_url=slow.base_url, drain_seconds="1")
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, timeout=30) as answer:
        pieces = answer.iter_raw()
        content = next(pieces)
        os.kill(proxy.process.pid, signal.SIGTERM)
        with contextlib.suppress(httpx.HTTPError):
            content += b"".join(pieces)
    slow.stop()
    assert b"[DONE]" not in content
    assert b'"code":"shutting_down"' in content
    proxy.process.wait(30)
    again = serve(data_dir=proxy.data_dir, upstream_url=slow.base_url)
    found = await_logged(again, {answer.headers["x-understudy-call-id"]})
    assert [call["complete"] for call in found.values()] == [False]


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 100, b"not a frame"])
def test_a_torn_record_at_the_end_of_a_segment_is_dropped(
    serve: Serve, upstream: ReplayUpstream, garbage: bytes
) -> None:
    proxy = serve(upstream_url=upstream.base_url)
    await_logged(proxy, ask_many(proxy, 2))
    with locked(proxy.data_dir / "understudy.db"):
        left = ask_many(proxy, 10)
        proxy.kill()
    segment = max((proxy.data_dir / "spool").iterdir(), key=lambda file: file.stat().st_size)
    with segment.open("ab") as file:
        file.write(garbage)
    again = serve(data_dir=proxy.data_dir, upstream_url=upstream.base_url)
    await_logged(again, left)


@pytest.mark.postgresql
def test_a_postgresql_that_crashes_holds_up_nobody_and_gets_every_call(
    serve: Serve, upstream: ReplayUpstream, postgresql: PostgreSQL
) -> None:
    proxy = serve(workers=2, upstream_url=upstream.base_url, database_url=postgresql.new_database())
    await_logged(proxy, ask_many(proxy, 10))
    postgresql.stop()
    try:
        late = ask_many(proxy, 20)
        assert httpx.get(f"{proxy.root}/readyz").status_code == 200
        assert logged(proxy) == {}  # 503: it says that it can't say
    finally:
        postgresql.start()
    assert len(await_logged(proxy, late)) == 30

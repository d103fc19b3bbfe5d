"""Bytes in the log per byte of raw JSON. `python tests/bench/log_size.py`.

The recorded calls of each agent go through the real spool and shipper into a SQLite database of their own, everything
on: message deduplication, compression, encryption. Raw is the request and the answer as they came; the log is the whole
database file after a checkpoint, its indexes and empty tables included. Shipped all at once, as on a busy day, or a
call at a time, as on a quiet one. Reading a call is opening the database and putting its bodies together.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlalchemy import text

from proxy.replay.recordings import Recording, lines, read_recordings
from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.records import CallFacts, CallRecord
from storage.repositories.calls import get_call
from storage.shipper import Shipper
from storage.spool import Spool

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "agent_calls.jsonl.gz"
MIN_CALLS = 50


@dataclass(frozen=True)
class Logged:
    """What became of some calls: sizes, and medians of times."""

    raw_bytes: int
    log_bytes: int
    shipped_per_second: float
    read_ms: float


def log_calls(recordings: list[Recording], at_once: int) -> Logged:
    """Ship so many at once, and read some of them back."""
    records = [record_of(recording) for recording in recordings]
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        cipher = Cipher.open(root)
        database = Database(f"sqlite:///{root / 'understudy.db'}")
        database.upgrade(cipher)
        shipper = Shipper(root / "spool", database, cipher, read_facts=facts_of, on_shipped=lambda calls: None)
        shipping_s = 0.0
        for start in range(0, len(records), at_once):
            spool = Spool(root / "spool", cipher)
            for record in records[start : start + at_once]:
                spool.append(record)
            spool.close()
            begun = time.perf_counter()
            shipper.ship_once()
            shipping_s += time.perf_counter() - begun
        with database.read() as session:
            session.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        log_bytes = (root / "understudy.db").stat().st_size
        times_ms = [read_ms(database, cipher, record) for record in records[:: max(1, len(records) // 100)]]
        database.close()
    raw_bytes = sum(len(record.request_body) + len(record.response_body) for record in records)
    return Logged(raw_bytes, log_bytes, len(records) / shipping_s, statistics.median(times_ms))


def read_ms(database: Database, cipher: Cipher, record: CallRecord) -> float:
    """Read a call and see that it came back as it was."""
    begun = time.perf_counter()
    with database.read() as session:
        stored = get_call(session, cipher, record.call_id)
    elapsed_ms = (time.perf_counter() - begun) * 1e3
    assert (stored.request_body, stored.response_body) == (record.request_body, record.response_body)
    return elapsed_ms


def record_of(recording: Recording) -> CallRecord:
    """As the proxy would have logged it."""
    return CallRecord(
        call_id=new_call_id(), arrived_at_ns=1_767_000_000_000_000_000, method="POST", path="/v1/chat/completions",
        endpoint="chat", status=200, served_by="llm", upstream="llm", reason="no_snapshot", duration_ms=812.5,
        first_token_ms=811.0, ended="finished", request_body=orjson.dumps(recording.request),
        response_body=orjson.dumps(recording.response), request_content_type="application/json",
        response_content_type="application/json", origin=b"0123456789abcdef",
    )  # fmt: skip


def facts_of(record: CallRecord) -> CallFacts:
    """Of the usual size."""
    return CallFacts(model_requested="gpt-4o", model_reported="gpt-4o-2024-08-06", input_tokens=1000, cost_usd=0.0025)


def main() -> None:
    """Print the table."""
    if not DATA.exists():
        print(f"not measured: no recorded calls at {DATA}")
        return
    by_agent: dict[str, list[Recording]] = defaultdict(list)
    everything: list[Recording] = []
    for (_, line), recording in zip(lines(DATA), read_recordings(DATA), strict=True):
        by_agent[orjson.loads(line)["agent"]].append(recording)
        everything.append(recording)
    groups = sorted(by_agent.items(), key=lambda item: -len(item[1]))
    print("| agent | calls | raw, KB | log, KB | raw / log | shipped, calls/s | one call read, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = [(agent, found, len(found)) for agent, found in groups if len(found) >= MIN_CALLS]
    rows += [("swe-agent, a call at a time", by_agent["swe-agent"], 1), ("all", everything, len(everything))]
    for name, recordings, at_once in rows:
        logged = log_calls(recordings, at_once)
        print(
            f"| {name} | {len(recordings)} | {logged.raw_bytes / 1e3:,.0f} | {logged.log_bytes / 1e3:,.0f} "
            f"| {logged.raw_bytes / logged.log_bytes:.1f} | {logged.shipped_per_second:,.0f} | {logged.read_ms:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Bytes in the log per byte of raw JSON. `python tests/bench/log_size.py`.

The recorded calls of each agent go through the real spool and shipper into a SQLite database of their own, everything
on: message deduplication, zstd with a dictionary trained on the log, encryption. Raw is the request and the answer as
they came; the log is the whole database file after a checkpoint, its indexes included.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import orjson
from sqlalchemy import text

from proxy.replay.recordings import Recording, lines, read_recordings
from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.records import CallFacts, CallRecord
from storage.shipper import Shipper
from storage.spool import Spool

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "agent_calls.jsonl.gz"
MIN_CALLS = 50


def logged_bytes(recordings: list[Recording]) -> tuple[int, int]:
    """(raw, log) bytes."""
    raw = 0
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        cipher = Cipher.open(root)
        database = Database(f"sqlite:///{root / 'understudy.db'}")
        spool = Spool(root / "spool", cipher)
        for recording in recordings:
            record = record_of(recording)
            raw += len(record.request_body) + len(record.response_body)
            spool.append(record)
        spool.close()
        Shipper(root / "spool", database, cipher, read_facts=facts_of, on_shipped=lambda calls: None).ship_once()
        with database.read() as session:
            session.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        database.close()
        return raw, (root / "understudy.db").stat().st_size


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
    print("| agent | calls | raw, KB | log, KB | raw / log |\n| --- | ---: | ---: | ---: | ---: |")
    groups = sorted(by_agent.items(), key=lambda item: -len(item[1]))
    for agent, recordings in [*((a, r) for a, r in groups if len(r) >= MIN_CALLS), ("all", everything)]:
        raw, log = logged_bytes(recordings)
        print(f"| {agent} | {len(recordings)} | {raw / 1e3:,.0f} | {log / 1e3:,.0f} | {raw / log:.1f} |", flush=True)


if __name__ == "__main__":
    main()

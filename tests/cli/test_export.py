"""`understudy export`: from the log to a file that a trainer reads."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.records import CallFacts
from storage.repositories import clusters
from storage.repositories.calls import insert_calls
from tests.conftest import understudy
from tests.storage.conftest import damage_block, make_record

TOOL = {"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}


def fill(directory: Path, calls: int) -> None:
    """A log with one cluster: each call asks to write to another customer; the last is answered by an SLM."""
    database, cipher = Database(f"sqlite:///{directory / 'understudy.db'}"), Cipher.open(directory)
    database.upgrade(cipher)
    row = clusters.StoredCluster(
        cluster_id="c-1", snapshot_id="s", label="write", contract={"kind": "tool_call", "tools": {"send": {}}},
        skeleton="", calls=calls, conversations=calls, examples=[],
    )  # fmt: skip
    with database.write() as session:
        clusters.activate_snapshot(session, cipher, "s", calls, [row])
        for number in range(calls):
            mail = f"eva{number}@kunde.at"
            asked = {"role": "user", "content": f"{number}: ask {mail}"}
            request = {"model": "m", "tools": [TOOL], "messages": [asked]}
            call = {"id": "x", "function": {"name": "send", "arguments": json.dumps({"to": mail})}}
            answer = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
            record = make_record(
                json.dumps(request).encode(),
                json.dumps(answer).encode(),
                call_id=new_call_id(),
                arrived_at_ns=10**18 + number * 10**6,
                cluster_id="c-1",
                served_by="slm" if number == calls - 1 else "llm",
            )
            insert_calls(session, cipher, [(record, CallFacts())])
        insert_calls(session, cipher, [(make_record(cluster_id="c-2"), CallFacts())])


def test_a_tasks_samples_are_written_masked_and_for_their_owner_alone(tmp_path: Path) -> None:
    fill(tmp_path, 21)
    out = tmp_path / "train.jsonl"
    done = understudy("export", "c-1", "--out", str(out), data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "12 samples, 3 calls held out for calibration and 5 for certification; dropped: 1 slm_served"
    )
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    samples = [json.loads(line) for line in out.read_text().splitlines()]
    call = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": '{"to": "[EMAIL_1]"}'}}
    assert samples[3] == {
        "messages": [{"role": "user", "content": "3: ask [EMAIL_1]"}, {"role": "assistant", "tool_calls": [call]}],
        "tools": [TOOL],
    }
    assert "kunde" not in out.read_text()


def test_a_task_without_samples_is_an_error_that_says_why(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    out = tmp_path / "train.jsonl"
    done = understudy("export", "c-1", "--out", str(out), data_dir=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("understudy: cluster c-1 has no call to train on: 0 samples")
    assert done.stderr.rstrip().endswith("dropped: 1 slm_served")
    assert not out.exists()


def test_calls_in_a_damaged_block_are_no_samples_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, 21)
    damage_block(Database(f"sqlite:///{tmp_path / 'understudy.db'}"), number=1)
    done = understudy("export", "c-1", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    assert " not_kept" in done.stderr.splitlines()[-1]
    assert 0 < len(done.stdout.splitlines()) < 12

"""The command line: a log without a proxy, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import understudy

COMMANDS = ["serve", "demo", "import", "report", "learn", "promote", "demote", "replay", "purge", "db upgrade"]
CALL = {
    "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
    "response": {
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    done = understudy(*command.split(), "--help", data_dir=tmp_path)
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("command", "values", "said"),
    [
        (["report"], {"risk": "2"}, "UNDERSTUDY_RISK='2'"),
        (["report"], {"no_such_thing": "1"}, "UNDERSTUDY_NO_SUCH_THING: no such setting"),
        (["learn"], {}, "the log holds no call to learn from yet"),
        (["demote", "c-none"], {}, "c-none has no current promotion"),
        (["promote", "c-none", "--model", "m", "--stage", "shadow"], {}, "there is no cluster c-none"),
        (["promote", "c-none", "--model", "m", "--stage", "live"], {}, "there is no cluster c-none"),
        (["demote", "c-1", "--url", "http://127.0.0.1:9"], {}, "no answer from a proxy's admin API"),
        (["import", "nowhere.jsonl", "--format", "jsonl"], {}, "nowhere.jsonl"),
        (["replay", "nowhere.jsonl"], {}, "where to?"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, command: list[str], values: dict[str, str], said: str) -> None:
    done = understudy(*command, data_dir=tmp_path / "data", **values)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("understudy: ")
    assert said in line


def test_an_imported_log_is_reported_without_a_proxy_and_imported_once(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(CALL | {"id": str(number)}) + "\n" for number in range(3)))
    data = tmp_path / "data"
    assert "3 calls imported" in understudy("import", str(file), "--format", "jsonl", data_dir=data).stdout
    assert "0 calls imported" in understudy("import", str(file), "--format", "jsonl", data_dir=data).stdout
    found = json.loads(understudy("report", "--json", data_dir=data).stdout)
    assert (found["calls"], found["tokens"]) == (3, 3300)
    assert found["cost_usd"] == pytest.approx(3 * 0.0035)
    table = understudy("report", data_dir=data).stdout
    assert max(map(len, table.splitlines())) <= 80
    assert "(no task)" in table


def test_nothing_of_a_broken_file_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text(json.dumps(CALL) + "\n{broken\n")
    done = understudy("import", str(file), "--format", "jsonl", data_dir=tmp_path / "data")
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert json.loads(understudy("report", "--json", data_dir=tmp_path / "data").stdout)["calls"] == 0

"""The command line: a log without a proxy, and errors in one line."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from storage.cipher import Cipher
from storage.database import Database
from storage.records import CallFacts
from storage.repositories import clusters
from storage.repositories.calls import insert_calls
from tests.conftest import environment_with, understudy
from tests.storage.conftest import damage_block, make_record

COMMANDS = [
    "serve", "demo", "evaluate", "import", "report", "learn", "export", "models", "train", "runs", "learner",
    "promote", "demote", "replay", "purge", "db upgrade", "keys create", "keys list",
    "keys revoke",
]  # fmt: skip
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
    assert "Example" in done.stdout
    assert f"understudy {command}" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("command", "values", "said"),
    [
        (["report"], {"risk": "2"}, "UNDERSTUDY_RISK='2'"),
        (["report"], {"no_such_thing": "1"}, "UNDERSTUDY_NO_SUCH_THING: no such setting"),
        (["learn"], {}, "the log holds no call to learn from yet"),
        (["export", "c-none"], {}, "there is no cluster c-none"),
        (["export", "c-none"], {"upstream_allows_training": "false"}, "terms forbid training"),
        (["demote", "c-none"], {}, "there is no cluster c-none"),
        (["train", "c-none"], {}, "there is no cluster c-none"),
        (["train", "c-none", "--json"], {}, "there is no cluster c-none"),
        (["runs", "c-none"], {}, "there is no run c-none"),
        (["runs", "c-none", "--cancel"], {}, "there is no run c-none"),
        (["promote", "c-none", "--model", "m", "--stage", "shadow"], {}, "there is no cluster c-none"),
        (["promote", "c-none", "--model", "m", "--stage", "live"], {}, "there is no cluster c-none"),
        (["demote", "c-1", "--url", "http://127.0.0.1:9"], {}, "no answer from a proxy's admin API"),
        (["demote", "c-1", "--url", "http://127.0.0.1:9"], {"admin_token": ""}, "no admin token is here"),
        (["import", "nowhere.jsonl", "--format", "jsonl"], {}, "nowhere.jsonl"),
        (["replay", "nowhere.jsonl"], {}, "where to?"),
        (["replay", "nowhere.jsonl", "--base-url", "nonsense"], {}, "--base-url must begin with http:// or https://"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, command: list[str], values: dict[str, str], said: str) -> None:
    done = understudy(*command, data_dir=tmp_path / "data", **values)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("understudy: ")
    assert said in line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--nope"], "No such option: --nope"),
        (["nonsense"], "No such command 'nonsense'"),
        (["import"], "Missing argument 'file'"),
        (["import", "calls.jsonl"], "Missing option '--format'. Choose from: openai-chat, litellm, langfuse,"),
        (["serve", "--port", "x"], "Invalid value for '--port'"),
        (["serve", "--host", ""], "Invalid value for '--host': must be a name or an address"),
        (["promote", "c", "--model", "m", "--stage", "far"], "'far' is not one of"),
    ],
)
def test_a_command_that_is_not_understood_is_one_line(tmp_path: Path, command: list[str], said: str) -> None:
    done = understudy(*command, data_dir=tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("understudy: ")
    assert said in line


def test_serve_says_what_to_do_next_on_the_first_start_and_once(tmp_path: Path) -> None:
    first, second = (serve_for_a_moment(tmp_path / "data") for _ in range(2))
    for line in (
        "OpenAI(base_url=",
        "new OpenAI({ baseURL:",
        "ChatOpenAI(base_url=",
        "curl http://",
        "console http://",
    ):
        assert line in first
    token = (tmp_path / "data" / "admin-token").read_text().strip()
    assert first.count(token) == 1
    assert token not in second
    assert len(second.splitlines()) == 2
    assert "console http://" in second


def serve_for_a_moment(data_dir: Path) -> str:
    """What `serve` prints until it is told to end."""
    environment = {
        name: value for name, value in environment_with(data_dir).items() if name != "UNDERSTUDY_ADMIN_TOKEN"
    }
    with subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "serve", "--port", "0"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        printed = process.stdout.readline()
        process.terminate()
        return printed + process.stdout.read()


def test_no_colours_go_into_a_pipe(tmp_path: Path) -> None:
    for command in (["report"], ["models"], ["keys", "list"], ["--help"], ["nonsense"]):
        done = understudy(*command, data_dir=tmp_path / "data")
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", [["report", "--json"], ["models", "--json"], ["keys", "list", "--json"], ["runs", "--json"]]
)
def test_what_is_a_table_is_json_too(tmp_path: Path, command: list[str]) -> None:
    done = understudy(*command, data_dir=tmp_path / "data")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_nothing_asked_for_is_answered_with_help(tmp_path: Path) -> None:
    done = understudy(data_dir=tmp_path / "data")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: understudy [OPTIONS]")


def test_replaying_a_file_without_calls_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for where in (["--base-url", "http://127.0.0.1:9/v1"], ["--upstream-only"]):
        done = understudy("replay", str(tmp_path / "empty.jsonl"), *where, data_dir=tmp_path / "data")
        assert done.returncode == 1
        assert done.stderr.endswith("empty.jsonl: there is no recorded call in it\n")


def test_long_work_says_what_it_is_at_where_there_is_no_terminal(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(CALL | {"id": str(number)}) + "\n" for number in range(3)))
    imported = understudy("import", str(file), "--format", "jsonl", data_dir=tmp_path / "data")
    assert imported.stderr.splitlines() == ["importing: 3 calls"]
    learned = understudy("learn", data_dir=tmp_path / "data", encoder="")
    assert learned.returncode == 0
    for stage in ("skeletons", "names", "writing the snapshot"):
        assert stage in learned.stderr.splitlines()


def test_calls_in_a_damaged_block_are_left_out_and_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        file = tmp_path / f"{number}.jsonl"
        file.write_text("".join(json.dumps(CALL | {"id": f"{number} {one}"}) + "\n" for one in range(3 - number)))
        assert understudy("import", str(file), "--format", "jsonl", data_dir=data).returncode == 0
        if number == 0:
            damage_block(Database(f"sqlite:///{data / 'understudy.db'}"))
            learned = understudy("learn", data_dir=data, encoder="")
            assert learned.returncode == 1
            assert learned.stderr.endswith("to learn from: what 3 calls said lies in damaged blocks of the log\n")
    learned = understudy("learn", data_dir=data, encoder="")
    assert learned.returncode == 0
    skipped, found = learned.stdout.splitlines()
    assert skipped == "what 3 calls said lies in damaged blocks of the log; skipped"
    assert found.startswith("2 calls, ")
    assert json.loads(understudy("report", "--json", data_dir=data).stdout)["calls"] == 5


def test_an_imported_log_is_reported_without_a_proxy_and_imported_once(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(CALL | {"id": str(number)}) + "\n" for number in range(3)))
    data = tmp_path / "data"
    assert "3 calls imported" in understudy("import", str(file), "--format", "jsonl", data_dir=data).stdout
    assert "0 calls imported" in understudy("import", str(file), "--format", "jsonl", data_dir=data).stdout
    found = json.loads(understudy("report", "--json", data_dir=data).stdout)
    assert (found["calls"], found["tokens"]) == (3, 3300)
    assert found["cost_usd"] == pytest.approx(3 * 0.0035)
    table = understudy("report", data_dir=data).stdout.splitlines()
    assert table[0].split() == ["task", "id", "contract", "calls", "%", "tokens", "%", "USD", "%"]
    assert table[1].split() == ["(no", "task)", "3", "100.0", "3.3k", "100.0", "0.0105", "100.0"]


def test_the_report_fits_a_screen_and_shows_no_unknown_price_as_nothing(tmp_path: Path) -> None:
    """More tasks than fit, long labels, large sums; one model has a price, another has none."""
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    cipher = Cipher.open(tmp_path)
    database.upgrade(cipher)
    rows = [
        clusters.StoredCluster(
            cluster_id=f"c-{number:010}", snapshot_id="s", label=f"task {number} with quite a long label indeed",
            contract={"kind": "tool_call"}, skeleton="", calls=3, conversations=3, examples=[],
        )
        for number in range(40)
    ]  # fmt: skip
    facts = CallFacts(model_requested="gpt-4o", input_tokens=987_654_321, output_tokens=5)
    with database.write() as session:
        clusters.activate_snapshot(session, cipher, "s", 3, rows)
        for number, row in enumerate(rows):
            priced = msgspec.structs.replace(facts, cost_usd=12_345.678 if number else None)
            insert_calls(session, cipher, [(make_record(cluster_id=row.cluster_id), priced)])
    lines = understudy("report", data_dir=tmp_path).stdout.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    assert not any("…" in line[18:] for line in lines)  # labels are cut, figures are not
    [unpriced] = [line for line in lines if "c-0000000000" in line]
    assert unpriced.split()[-7:] == ["c-0000000000", "tool_call", "1", "2.5", "987.7M", "2.5", "?"]
    [priced_line] = [line for line in lines if "c-0000000001" in line]
    assert priced_line.split()[-2:] == ["12.3k", "2.6"]
    [whole] = [line for line in lines if line.startswith("the whole log")]
    assert whole.split()[-2:] == ["481.5k?", "100.0"]
    tasks = json.loads(understudy("report", "--json", data_dir=tmp_path).stdout)["tasks"]
    by_id = {task["cluster"]: task for task in tasks}
    assert (by_id["c-0000000000"]["cost_usd"], by_id["c-0000000000"]["cost_share"]) == (None, None)
    assert by_id["c-0000000001"]["cost_usd"] == pytest.approx(12_345.678)


def test_the_report_says_where_training_does_not_pay(tmp_path: Path) -> None:
    """A server for 1 $ an hour, and a call a month of each task: one saves 9,000 $, one a cent, one has no price."""
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    cipher = Cipher.open(tmp_path)
    database.upgrade(cipher)
    costs = {"c-rich": 9000.0, "c-poor": 0.01, "c-none": None}
    rows = [clusters.StoredCluster(name, "s", name, {"kind": "tool_call"}, "", 1, 1, []) for name in costs]
    month_ns = int(365.25 / 12 * 86_400 * 1e9)
    with database.write() as session:
        clusters.activate_snapshot(session, cipher, "s", 3, rows)
        for place, (name, cost) in enumerate(costs.items()):
            record = make_record(cluster_id=name, arrived_at_ns=1_767_000_000 * 10**9 + place * month_ns // 2)
            insert_calls(session, cipher, [(record, CallFacts(model_requested="gpt-4o", cost_usd=cost))])
    prices = {"slm_gpu_usd_per_hour": "1", "audit_share": "0"}
    lines = understudy("report", data_dir=tmp_path, **prices).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "training pays for 1 of 2 tasks at today's volume" in lines
    assert "  not for c-poor: it takes 73.0k calls a month; it has 1" in lines
    tasks = json.loads(understudy("report", "--json", data_dir=tmp_path, **prices).stdout)["tasks"]
    assert {task["cluster"]: task["training_pays"] for task in tasks} == {
        "c-rich": True, "c-poor": False, "c-none": None
    }  # fmt: skip
    assert "no SLM has a price" in understudy("report", data_dir=tmp_path).stdout


def test_nothing_of_a_broken_file_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text(json.dumps(CALL) + "\n{broken\n")
    done = understudy("import", str(file), "--format", "jsonl", data_dir=tmp_path / "data")
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert json.loads(understudy("report", "--json", data_dir=tmp_path / "data").stdout)["calls"] == 0


def test_a_data_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "serving.json").write_text("{}")
    (data / "serving.json").chmod(0o644)
    assert understudy("report", data_dir=data).returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [data, *data.iterdir()]}
    assert modes == {"data": 0o700, "serving.json": 0o600, "understudy.db": 0o600, "encryption.key": 0o600}

"""`understudy models`: the catalogue, and what of it fits a task of the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.cipher import Cipher
from storage.database import Database
from storage.ids import new_call_id
from storage.records import CallFacts
from storage.repositories import clusters
from storage.repositories.calls import insert_calls, long_call_tokens
from tests.conftest import understudy
from tests.storage.conftest import make_record


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """One task that calls tools: 100 calls of 1,000 + 100 tokens, but one of 200,000; and a task of unknown length."""
    database, cipher = Database(f"sqlite:///{tmp_path / 'understudy.db'}"), Cipher.open(tmp_path)
    database.upgrade(cipher)
    tasks = [
        clusters.StoredCluster(
            cluster_id=name, snapshot_id="s", label="write", contract={"kind": "tool_call", "tools": {"send": {}}},
            skeleton="", calls=1, conversations=1, examples=[],
        )
        for name in ("c-1", "c-2")
    ]  # fmt: skip
    with database.write() as session:
        clusters.activate_snapshot(session, cipher, "s", 1, tasks)
        lengths = [1000] * 99 + [200_000]
        calls = [(make_record(call_id=new_call_id(), cluster_id="c-1"), CallFacts(input_tokens=n, output_tokens=100))
                 for n in lengths]  # fmt: skip
        insert_calls(session, cipher, [*calls, (make_record(cluster_id="c-2"), CallFacts())])
    with database.read() as session:
        assert long_call_tokens(session, "c-1") == 1100
        assert long_call_tokens(session, "c-1", share=1.0) == 200_100
        assert long_call_tokens(session, "c-2") is None
    return tmp_path


def test_the_catalogue_is_listed_within_80_columns_with_ones_own_models(tmp_path: Path) -> None:
    [entry] = json.loads(understudy("models", "--json", data_dir=tmp_path).stdout)[:1]
    assert entry["licence"] == "apache-2.0"
    own = tmp_path / "own.toml"
    own.write_text(
        '[[model]]\nname = "us/tiny"\nparameters = 1000\ncontext_tokens = 10\nlicence = "mit"\nlanguages = ["en"]\n'
        "tools = false\njson = true\nlora = true\nattention_layers = 1\nkv_heads = 1\nhead_size = 1\n"
        'source = "https://example.org"\nread = 2026-11-21\n'
    )
    done = understudy("models", data_dir=tmp_path, model_catalogue=str(own))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("us/tiny")
    assert "meta-llama/Llama-3.2-1B-Instruct" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_task_gets_what_fits_its_calls_and_the_gpu_and_the_reasons_for_the_rest(log: Path) -> None:
    done = understudy("models", "c-1", "--gpu-memory", "12", "--licence", "apache-2.0", data_dir=log)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the task needs 1,375 tokens of context for prompt and answer; tool calls; ")
    assert lines[2].startswith("first to try, the cheapest of ")
    assert "ibm-granite/granite-4.0-350m" in lines[2]
    assert any(line.startswith("left out: Qwen/Qwen3-8B: it takes ") for line in lines)

    chosen = json.loads(understudy("models", "c-1", "--gpu-memory", "12", "--json", data_dir=log).stdout)
    assert chosen["fitting"][0]["model"] == "ibm-granite/granite-4.0-350m"
    assert chosen["fitting"][0]["memory_bytes"]["total"] < 12 * 2**30
    assert {left["model"] for left in chosen["excluded"]} > {"HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-8B"}


@pytest.mark.parametrize(
    ("arguments", "values", "said"),
    [
        (["c-none"], {}, "there is no cluster c-none"),
        (["c-2"], {}, "cluster c-2: the log knows the length of none of its calls; say --context"),
        (
            [],
            {"model_catalogue": "nowhere.toml"},
            "UNDERSTUDY_MODEL_CATALOGUE: nowhere.toml: can't be read",
        ),
    ],
)
def test_bad_input_is_one_line(log: Path, arguments: list[str], values: dict[str, str], said: str) -> None:
    done = understudy("models", *arguments, data_dir=log, **values)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"understudy: {said}")

"""vLLM's control plane, on a socket that answers as vLLM does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import Conflict, Unprocessable
from proxy.slm.vllm import QUESTION_SECONDS, VllmServer
from tests.proxy.fake_vllm import BASE, FakeVllm


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        yield fake


@pytest.fixture
def server(fake: FakeVllm) -> VllmServer:
    return VllmServer("gpu", fake.url)


def adapter(directory: Path, base: str) -> str:
    """An adapter's directory, as far as it is read before loading."""
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 16}))
    return str(directory)


def test_an_adapter_is_loaded_once_and_has_its_bases_context(
    fake: FakeVllm, server: VllmServer, tmp_path: Path
) -> None:
    path = adapter(tmp_path / "triage", BASE)
    for _ in range(2):
        served = server.ensure_served("triage", path)
        assert (served.name, served.root, served.parent, served.max_context_tokens) == ("triage", path, "tiny", 1024)
    assert fake.adapters == {"triage": path}


def test_a_model_that_is_there_needs_no_adapter(server: VllmServer) -> None:
    assert server.ensure_served("tiny", None).root == BASE


def test_a_model_that_is_not_there_is_refused_with_what_there_is(fake: FakeVllm, server: VllmServer) -> None:
    fake.adapters = {"orders": "/adapters/orders"}
    with pytest.raises(Unprocessable, match=r"'gpu' does not have the model 'triage'; it has: orders, tiny"):
        server.ensure_served("triage", None)


def test_an_adapter_of_another_base_is_never_loaded(fake: FakeVllm, server: VllmServer, tmp_path: Path) -> None:
    path = adapter(tmp_path / "triage", "Qwen/Qwen3-0.6B")
    with pytest.raises(Unprocessable, match=r"for the base model Qwen/Qwen3-0\.6B, the server has /models/base"):
        server.ensure_served("triage", path)
    assert fake.adapters == {}


def test_a_directory_that_is_no_adapter_is_never_loaded(fake: FakeVllm, server: VllmServer, tmp_path: Path) -> None:
    with pytest.raises(Unprocessable, match=r"adapter_config\.json can't be read"):
        server.ensure_served("triage", str(tmp_path))
    assert fake.adapters == {}


def test_other_weights_are_never_loaded_over_a_name_in_use(fake: FakeVllm, server: VllmServer) -> None:
    fake.adapters = {"triage": "/adapters/triage-1"}
    with pytest.raises(Conflict, match="already serves /adapters/triage-1 as 'triage'"):
        server.ensure_served("triage", "/adapters/triage-2")
    assert fake.adapters == {"triage": "/adapters/triage-1"}


@pytest.mark.parametrize(
    ("path", "words"), [("/adapters/missing", "No adapter found"), ("/adapters/rank-64", "max_lora_rank 16")]
)
def test_the_servers_own_words_say_why_it_refused_an_adapter(server: VllmServer, path: str, words: str) -> None:
    with pytest.raises(Unprocessable, match=words):
        server.ensure_served("triage", path)


def test_a_server_without_run_time_loading_is_told_how_to_start(fake: FakeVllm, server: VllmServer) -> None:
    fake.can_load = False
    with pytest.raises(Unprocessable, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        server.ensure_served("triage", "/adapters/triage")


def test_a_dead_server_is_a_conflict(fake: FakeVllm, server: VllmServer) -> None:
    fake.die()
    with pytest.raises(Conflict, match="can't be reached"):
        server.models()


def test_a_server_that_accepts_and_says_nothing_is_given_up_soon() -> None:
    assert QUESTION_SECONDS < 10
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        server = VllmServer("gpu", url, question_seconds=0.1)
        with pytest.raises(Conflict, match=r"'gpu' at .* did not answer in 0\.1 s"):
            server.ensure_served("triage", "/adapters/triage")


@pytest.mark.parametrize(
    ("fault", "words"), [("unauthorized", "401: Unauthorized"), ("engine-dead", "500: EngineCore")]
)
def test_a_server_that_does_not_list_its_models_is_a_conflict_in_its_own_words(
    fake: FakeVllm, server: VllmServer, fault: str, words: str
) -> None:
    fake.fault = fault
    with pytest.raises(Conflict, match=words):
        server.models()


@pytest.mark.parametrize(
    ("listed", "called"),
    [(["hub/model"], "{}@main"), ([], "{}@main"), ([], "{}")],
    ids=["transformers serve with a cache", "transformers serve", "lists nothing"],
)
def test_an_unlisted_model_is_known_by_its_answer(
    fake: FakeVllm, server: VllmServer, tmp_path: Path, listed: list[str], called: str
) -> None:
    fake.listed, fake.called = listed, called
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    served = server.ensure_served(str(tmp_path), None)
    assert (served.name, served.parent, served.max_context_tokens) == (str(tmp_path), None, 512)
    assert fake.seen["max_tokens"] == 1
    assert server.ensure_served("merged", None).max_context_tokens is None


@pytest.mark.parametrize(
    ("listed", "called"), [(["other"], "{}"), (["other"], "other"), ([], "other"), ([], "merge@d")]
)
def test_a_server_that_answers_to_any_name_is_not_believed(
    fake: FakeVllm, server: VllmServer, listed: list[str], called: str
) -> None:
    fake.listed, fake.called = listed, called
    with pytest.raises(Unprocessable, match=r"does not have the model 'merged'.* it answers as"):
        server.ensure_served("merged", None)


def test_a_server_that_fails_at_both_is_a_conflict_in_its_own_words(fake: FakeVllm, server: VllmServer) -> None:
    fake.fault = "engine-dead"
    with pytest.raises(Conflict, match=r"nothing that it lists.* it says 500: EngineCore"):
        server.ensure_served("merged", None)


def test_a_server_without_adapters_is_given_a_way_out(fake: FakeVllm, server: VllmServer) -> None:
    fake.listed, fake.can_load = [], False
    with pytest.raises(Unprocessable, match="merge the adapter into its base"):
        server.ensure_served("triage", "/adapters/triage")

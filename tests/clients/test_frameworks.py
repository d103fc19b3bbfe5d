"""Agent frameworks, pointed at the proxy by their base URL alone: a tool loop and a stream get through each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, running, wait_for

_SOURCES = Path(__file__).parent / "frameworks"
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "frameworks"


def answer(request: dict[str, Any]) -> str | dict[str, Any]:
    """The simulated LLM: asks for the weather, then tells it."""
    last = request["messages"][-1]
    if last["role"] == "tool":
        return f"There is {last['content']}."
    function = {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    return {"content": None, "tool_calls": [{"id": "call_oslo", "type": "function", "function": function}]}


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has the frameworks; installed once, then kept."""
    wanted = (_SOURCES / "requirements.txt").read_text()
    ready, interpreter = _CACHE / "requirements.txt", _CACHE / "bin" / "python"
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", _CACHE], check=True)
        install = [interpreter, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*install, "--requirement", _SOURCES / "requirements.txt"], check=True, timeout=400)
        ready.write_text(wanted)
    return interpreter


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    upstream = ReplayUpstream(answerer=answer)
    upstream.start()
    with running(tmp_path_factory.mktemp("frameworks"), upstream_url=upstream.base_url) as started:
        yield started
    upstream.stop()


@pytest.mark.parametrize("script", ["langchain_agent", "litellm_client", "openai_agents", "pydantic_agent"])
def test_a_tool_loop_gets_through_and_is_logged(python: Path, proxy: Proxy, script: str) -> None:
    before = proxy.logged()
    done = subprocess.run(
        [python, _SOURCES / f"{script}.py", proxy.base_url], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "There is rain in Oslo."
    wait_for(lambda: proxy.logged() == before + 2)
    last, first = proxy.admin("GET", "/calls?limit=2").json()["data"]
    assert (first["complete"], last["complete"]) == (True, True)
    assert first["finish_reason"] == "tool_calls"

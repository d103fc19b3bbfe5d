"""The official Node client, pointed at the proxy by `baseURL` alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import CITY
from tests.conftest import Proxy

pytestmark = pytest.mark.node

_SOURCES = Path(__file__).parent / "node"
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "node"


@pytest.fixture(scope="module")
def client() -> Path:
    """The client's script beside the installed package; installed once, then kept."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    wanted = (_SOURCES / "package.json").read_bytes()
    there = _CACHE / "package.json"
    if not (_CACHE / "node_modules" / "openai").is_dir() or not there.exists() or there.read_bytes() != wanted:
        shutil.rmtree(_CACHE, ignore_errors=True)
        _CACHE.mkdir(parents=True)
        there.write_bytes(wanted)
        install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        subprocess.run(install, cwd=_CACHE, check=True, timeout=240)
    return Path(shutil.copy(_SOURCES / "client.mjs", _CACHE))


@pytest.fixture(scope="module")
def results(client: Path, proxy: Proxy) -> dict[str, Any]:
    """What each part of the script found."""
    done = subprocess.run(
        ["node", client, proxy.base_url], capture_output=True, text=True, timeout=120, check=False, cwd=client.parent
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


WEATHER = [["call_oslo", {"city": "Oslo"}], ["call_rome", {"city": "Rome"}]]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("chat", ["You said: Hello, wörld 🌍", "llm"]),
        ("streamed", "You said: Hello, wörld 🌍"),
        ("tools", WEATHER),
        ("tools_streamed", WEATHER),
        ("structured", CITY),
        ("responses", "Hello, world!"),
        ("responses_streamed", "Hello, world!"),
        ("embeddings", 2),
        ("models", ["gpt-4o"]),
        ("files", [300000, True]),
        ("rate_limit", ["RateLimitError", 429, "1"]),
        ("timeout", ["APIConnectionTimeoutError", None, None]),
    ],
)
def test_node_sees_what_it_would_see_without_a_proxy(results: dict[str, Any], part: str, expected: Any) -> None:
    assert results[part] == expected


def test_a_cut_stream_raises_in_node_instead_of_ending(results: dict[str, Any]) -> None:
    # Cut within an event, the client meets the unfinished JSON before the event that holds our error.
    assert results["cut_stream"][0] in ("APIError", "SyntaxError")

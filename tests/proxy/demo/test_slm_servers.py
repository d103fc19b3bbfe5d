"""Which server the demo uses, and what it says about it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.demo.servers import DemoFailed
from proxy.demo.slm_servers import VLLM_READY, Choice, choose

SETUP = Path("deploy/vllm-cpu")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """What `make setup` leaves behind where vLLM works."""
    ready = tmp_path / ".ready"
    ready.touch()
    return ready


@pytest.mark.parametrize("choice", [Choice.AUTO, Choice.VLLM])
def test_vllm_serves_where_it_is_installed(choice: Choice, installed: Path, tmp_path: Path) -> None:
    assert choose(choice, tmp_path, contextlib.ExitStack(), installed).name == "vLLM"


def test_without_vllm_the_demo_goes_on_and_says_why(tmp_path: Path) -> None:
    server = choose(Choice.AUTO, tmp_path, contextlib.ExitStack(), tmp_path / "missing")
    assert server.name == "transformers serve"
    assert "vLLM's CPU build is not installed here" in server.notice


def test_setup_leaves_the_demo_to_the_fallback_where_the_wheel_does_not_fit(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[3] / SETUP, tmp_path / SETUP)
    uname = tmp_path / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text("#!/bin/sh\necho Darwin arm64\n")
    uname.chmod(0o755)
    path = f"{uname.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / SETUP / "setup"], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "going on without vLLM: its CPU wheel is for Linux on x86-64, this is Darwin arm64\n"
    assert choose(Choice.AUTO, tmp_path, contextlib.ExitStack(), tmp_path / VLLM_READY).name == "transformers serve"


def test_the_fallback_can_be_asked_for(installed: Path, tmp_path: Path) -> None:
    server = choose(Choice.TRANSFORMERS, tmp_path, contextlib.ExitStack(), installed)
    assert server.name == "transformers serve"
    assert "it was asked for" in server.notice


def test_vllm_asked_for_and_missing_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="--slm-server transformers"):
        choose(Choice.VLLM, tmp_path, contextlib.ExitStack(), tmp_path / "missing")

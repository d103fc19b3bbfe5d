"""The demo itself, on the real vLLM: one task instead of three, and as few calls as a certificate takes.

Tasks are known by their templates alone here: distilling the sentence encoder would take most of the time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.vllm.conftest import VENV

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

SCRIPT = """
import sys
from rich.console import Console
from proxy.demo.slm_servers import Choice
from proxy.demo.story import Sizes, run
sizes = Sizes(tasks=1, learned=600, others=40, recorded=20, served=30)
if __name__ == "__main__":
    sys.exit(run(True, Choice.VLLM, Console(width=80), sizes=sizes, settings={"UNDERSTUDY_ENCODER": ""}))
"""


@pytest.mark.skipif(not (VENV / ".ready").exists(), reason="vLLM's CPU build is not installed: `make setup` says why")
def test_a_task_is_learned_proved_served_and_withdrawn_when_the_llm_changes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False, cwd=VENV.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = " ".join(done.stdout.split())
    assert "triage: proved: " in said
    for step in ("candidate → shadow", "shadow → canary", "canary → live"):
        assert f"triage: {step}" in said
    assert "triage was withdrawn by itself after" in said
    assert "the SLM served 0" in said, said
    calls, by_slm = map(int, re.search(r"(\d+) calls, (\d+) answered by SLMs", said).groups())  # type: ignore[union-attr]
    assert by_slm >= calls // 2
    assert re.search(r"triage json withdrawn \d+ of \d+ \d\.\d%", said)
    assert "Traceback" not in done.stderr

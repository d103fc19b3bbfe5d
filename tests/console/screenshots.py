"""Rebuilds the README's pictures: `python -m tests.console.screenshots ../shared/data/agent_calls.jsonl.gz`.

What they show: recorded calls of real agents, replayed; the LLM and the SLM are simulated (`stage.py`).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.conftest import ADMIN_TOKEN
from tests.console.stage import on_stage

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 1280, "height": 900}


def main(recordings: Path, stay_seconds: float = 0.0) -> None:
    """Write them; then go on serving for a while, for somebody to look around."""
    settings = {"encoder": "", "slm_gpu_usd_per_hour": "0.005", "learn_every_hours": "0", "audit_share": "0.02"}
    with tempfile.TemporaryDirectory() as directory, on_stage(Path(directory), recordings, **settings) as proxy:
        tasks = proxy.admin("GET", "/clusters").json()["data"]
        costliest = max((task for task in tasks if task["stage"] == "live"), key=lambda task: task["cost_usd"])
        pictures = {"savings": "/", "task": f"/tasks/{costliest['id']}"}
        IMAGES.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(base_url=proxy.root, viewport=SIZE)  # type: ignore[arg-type]
            _log_in(page)
            for name, path in pictures.items():
                page.goto(path)
                page.screenshot(path=IMAGES / f"{name}.png")
            browser.close()
        sys.stdout.write(f"{proxy.root} with the token {ADMIN_TOKEN}\n")
        sys.stdout.flush()
        time.sleep(stay_seconds)


def _log_in(page: Page) -> None:
    page.goto("/login")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)

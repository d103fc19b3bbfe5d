"""Rebuilds the README's pictures from a demo that has told its story: leave `make demo` running, and in another shell
`python -m tests.console.screenshots CONSOLE TOKEN`, with the two that it printed at its end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SIZE = {"width": 1280, "height": 900}


def main(root: str, token: str) -> None:
    """Write them: the savings, and the page of a task that an SLM serves."""
    headers = {"authorization": f"Bearer {token}"}
    tasks = httpx.get(f"{root}/admin/v1/clusters", headers=headers, timeout=30).raise_for_status().json()["data"]
    served = next(task for task in tasks if task["stage"] == "live")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(base_url=root, viewport=SIZE)  # type: ignore[arg-type]
        page.goto("/login")
        page.get_by_label("Admin token").fill(token)
        page.keyboard.press("Enter")
        page.wait_for_url("**/")
        for name, path in {"savings": "/", "task": f"/tasks/{served['id']}"}.items():
            page.goto(path)
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), sys.argv[2])

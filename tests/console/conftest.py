"""The product in a real browser: Debian's Chromium, driven by Playwright, and the judge of accessibility, axe-core."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from proxy.demo import agents
from proxy.promotion.proof import subject_today
from proxy.replay.upstream import ReplayUpstream
from storage.cipher import Cipher
from storage.database import Database
from storage.repositories.certificates import add_certificate
from tests.conftest import ADMIN_TOKEN, Proxy, running, understudy, wait_for
from tests.proxy.certificates import certificate_of
from tests.proxy.fake_vllm import FakeVllm

AXE = "axe-core@4.14.1"
LEARNED = 60
PATIENCE_MS = 20_000
SLM_ANSWER = '{"label":"refund","urgent":false}'
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "axe"


@dataclass
class Shown:
    """The product with one task that an SLM may serve.

    Attributes:
        task: the cluster's id.
        tickets: requests of that task.
    """

    proxy: Proxy
    task: str
    tickets: Iterator[tuple[str, str]] = field(default_factory=lambda: agents.tickets(seed=7))

    def ask(self) -> httpx.Response:
        """One call of the task; payloads that are unlike the learned ones are the LLM's, and are passed over."""
        while True:
            body = agents.ticket_call(next(self.tickets)[0])
            answer = httpx.post(f"{self.proxy.base_url}/chat/completions", json=body, timeout=30)
            if answer.headers["x-understudy-reason"] != "payload_out_of_distribution":
                return answer

    def served_by(self) -> str:
        """Who answers now."""
        return self.ask().headers["x-understudy-served-by"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A proxy that has learned one task, and has an SLM that is proved on it."""
    llm = agents.TriageLLM()
    upstream = ReplayUpstream(answerer=lambda request: llm.answer(request) or SLM_ANSWER)
    upstream.start()
    with (
        FakeVllm() as slm,
        running(
            tmp_path_factory.mktemp("console"), upstream_url=upstream.base_url, slm_url=f"main={slm.url}", encoder=""
        ) as proxy,
    ):
        slm.message = {"content": SLM_ANSWER}
        with httpx.Client() as client:
            for text, answer in islice(agents.tickets(seed=7), LEARNED):
                llm.expect(text, answer)
                client.post(f"{proxy.base_url}/chat/completions", json=agents.ticket_call(text))
        wait_for(lambda: proxy.logged() == LEARNED)
        learned = understudy("learn", data_dir=proxy.data_dir, encoder="")
        assert learned.returncode == 0, learned.stderr
        wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
        [task] = proxy.admin("GET", "/clusters").json()["data"]
        entry = {"name": "tiny", "slm": "main"}
        assert proxy.admin("POST", "/models", json=entry).status_code == 201
        _certify(proxy, task["id"], "tiny")
        yield Shown(proxy, task["id"])
    upstream.stop()


def _certify(proxy: Proxy, cluster_id: str, model: str) -> None:
    database = Database(f"sqlite:///{proxy.data_dir / 'understudy.db'}")
    with database.write() as session:
        subject = subject_today(session, Cipher.open(proxy.data_dir), cluster_id, model, "main", None)
        certificate = certificate_of(subject)
        add_certificate(session, cluster_id, model, certificate.issued_at, certificate.to_json())
    database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window. Ends with the module: Playwright's event loop would be in asynchronous tests' way."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    expect.set_options(timeout=PATIENCE_MS)
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, shown: Shown) -> Iterator[Open]:
    """Opens tabs. At the end none of them may have asked another host, or have had to be held back by its policy."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def note(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # a page of status 409, say
            complaints.append(message.text)

    def start(*, phone: bool = False, logged_in: bool = True, root: str = shown.proxy.root, **options: Any) -> Page:
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
        context = browser.new_context(base_url=root, viewport=size, has_touch=phone, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        host = urlsplit(root).netloc
        context.on("request", lambda asked: urlsplit(asked.url).netloc == host or complaints.append(asked.url))
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if logged_in:
            log_in(page)
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def log_in(page: Page) -> None:
    """By the form."""
    page.goto("/login")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's source, fetched once with npm and then kept."""
    script = _CACHE / "package" / "axe.min.js"
    if not script.exists() or AXE.partition("@")[2] not in script.read_text()[:200]:
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        _CACHE.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", AXE], cwd=_CACHE, check=True, capture_output=True, text=True, timeout=200
        )
        subprocess.run(["tar", "xzf", packed.stdout.strip().splitlines()[-1]], cwd=_CACHE, check=True)
    return script.read_text()

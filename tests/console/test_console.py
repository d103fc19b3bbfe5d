"""The console as people use it: with a mouse, a thumb, a keyboard, without JavaScript, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import ADMIN_TOKEN, running, wait_for
from tests.console.conftest import LEARNED, Open, Shown

pytestmark = pytest.mark.browser

SERIOUS = ("serious", "critical")
WAYS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "phone": {"phone": True},
    "without JavaScript": {"java_script_enabled": False},
}


def pages(shown: Shown) -> dict[str, str]:
    """Every page that there is."""
    [call] = shown.proxy.admin("GET", "/calls?limit=1").json()["data"]
    task = f"/tasks/{shown.task}"
    return {
        "savings": "/",
        "tasks": "/tasks",
        "task": task,
        "promote": f"{task}/promote?model=tiny&stage=live",
        "promote without proof": f"{task}/promote?model=other&stage=canary",
        "calls": "/calls?live=0",
        "no calls": "/calls?agent=nobody",
        "call": f"/calls/{call['call_id']}",
        "runs": "/runs",
        "models": "/models",
        "audit": "/audit",
        "keys": "/keys",
        "an error": "/tasks/c-none",
    }


@pytest.mark.parametrize("way", WAYS)
def test_log_in_read_savings_promote_see_it_served_and_demote(open_page: Open, shown: Shown, way: str) -> None:
    page = open_page(logged_in=False, **WAYS[way])
    page.goto("/tasks")
    expect(page).to_have_title("Log in – Understudy")
    page.get_by_label("Admin token").fill("a guess")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("neither the admin token")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")  # where it was going

    page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="Savings").click()
    expect(page.locator("#net")).to_contain_text("$")
    page.get_by_role("table").get_by_role("link", name="triage desk").click()
    expect(page.get_by_role("heading", name="Proof")).to_be_visible()
    expect(page.get_by_role("img", name="Bound on disagreement")).to_be_visible()
    page.get_by_label("Stage").select_option("live")
    page.get_by_role("button", name="Promote …").click()
    main = page.locator("main")
    expect(main).to_contain_text("Nothing is missing")
    expect(main).to_contain_text("0 of 70")
    page.get_by_role("button", name="Promote to live").click()
    expect(page.get_by_role("status")).to_contain_text("All workers serve by it within five seconds")
    wait_for(lambda: shown.served_by() == "slm", 10)
    wait_for(lambda: shown.proxy.admin("GET", "/calls?served_by=slm&limit=1").json()["data"])

    page.get_by_role("link", name="Calls", exact=True).click()
    page.get_by_label("Served by").select_option("slm")
    page.get_by_role("button", name="Show").click()
    row = page.get_by_role("table").get_by_role("row").nth(1)
    expect(row).to_contain_text("matched")
    row.get_by_role("link").first.click()
    expect(page.locator("main")).to_contain_text('{"label":"refund","urgent":false}')
    page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="Savings").click()
    expect(page.get_by_role("table").last).to_contain_text("live")

    page.get_by_role("table").get_by_role("link", name="triage desk").click()
    page.get_by_role("link", name="Demote …").click()
    expect(page.locator("main")).to_contain_text("The LLM answers all calls of this task again")
    page.get_by_role("button", name="Demote").click()
    expect(page.get_by_role("status")).to_contain_text("The LLM answers every call")
    wait_for(lambda: shown.served_by() == "llm", 10)
    expect(page.get_by_role("heading", name="Life so far").locator("..")).to_contain_text("live → retired")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in – Understudy")


def test_without_proof_it_says_what_is_missing_and_asks_for_a_reason(open_page: Open, shown: Shown) -> None:
    page = open_page()
    page.goto(f"/tasks/{shown.task}")
    page.get_by_label("SLM", exact=True).fill("unproved")
    page.get_by_label("Stage").select_option("live")
    page.get_by_role("button", name="Promote …").click()
    expect(page.get_by_role("table")).to_contain_text("disagreement_bound")
    force = page.get_by_role("button", name="Promote without proof")
    force.click()
    expect(page).to_have_url(f"{shown.proxy.root}/tasks/{shown.task}/promote?model=unproved&stage=live&percent=10")
    page.get_by_label("Why it is right").fill("a test")
    force.click()
    expect(page.get_by_role("alert")).to_contain_text("does not have the model 'unproved'")


def press_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what is called so."""
    for _ in range(120):
        page.keyboard.press("Tab")
        here = page.locator(":focus")
        if here.count() and here.inner_text().strip().startswith(name):
            return
    raise AssertionError(f"Tab never came to {name!r}")


def test_a_keyboard_is_enough(open_page: Open, shown: Shown) -> None:
    page = open_page(logged_in=False)
    page.goto("/login")
    page.keyboard.type(ADMIN_TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_in_viewport()
    press_to(page, "Tasks")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")  # a key pressed before goes to the old page
    press_to(page, "triage desk")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("triage desk")
    press_to(page, "Promote …")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Promote to shadow?")
    press_to(page, "Promote to shadow")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Done")
    press_to(page, "Demote …")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Demote?")
    press_to(page, "Demote")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Done")


def test_the_log_moves_by_itself_until_it_is_paused(open_page: Open, shown: Shown) -> None:
    page = open_page()
    page.goto("/calls")
    newest = page.locator("tbody tr a").first
    before = newest.get_attribute("id")
    shown.ask()
    expect(newest).not_to_have_attribute("id", before or "")
    page.get_by_role("link", name="Pause").click()
    expect(page.get_by_text("Paused.")).to_be_visible()
    assert page.locator("[hx-trigger]").count() == 0


def test_the_first_call_replaces_the_lines_that_asked_for_it(open_page: Open, tmp_path: Path) -> None:
    upstream = ReplayUpstream(answerer=lambda request: "Hello!")
    upstream.start()
    with running(tmp_path, upstream_url=upstream.base_url, encoder="") as proxy:
        page = open_page(root=proxy.root)
        expect(page.get_by_role("heading", level=1)).to_have_text("No call yet")
        expect(page.locator("main")).to_contain_text(f'base_url="{proxy.base_url}"')
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
        httpx.post(f"{proxy.base_url}/chat/completions", json=body)
        expect(page.locator("#net")).to_contain_text("$0.00")
        page.close()
    upstream.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_axe_finds_no_serious_fault_and_nothing_sticks_out(
    open_page: Open, shown: Shown, axe: str, scheme: str, phone: bool
) -> None:
    page = open_page(phone=phone, logged_in=False, color_scheme=scheme)
    found = {}
    everywhere = {"login": "/login"} | pages(shown)
    for name, path in everywhere.items():
        if name == "savings":
            page.get_by_label("Admin token").fill(ADMIN_TOKEN)
            page.keyboard.press("Enter")
            page.wait_for_url("**/")
        page.goto(path)
        for faults in page.locator("details").all():
            faults.locator("summary").click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"], f"{name} is {width} pixels wide"  # type: ignore[index]
        page.evaluate(axe)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        faults = [
            f"{fault['id']}: {node['html'][:200]}"
            for fault in result["violations"]
            if fault["impact"] in SERIOUS
            for node in fault["nodes"]
        ]
        if faults:
            found[name] = faults
    assert found == {}


def test_a_table_is_a_table_without_javascript(open_page: Open, shown: Shown) -> None:
    page = open_page(java_script_enabled=False)
    page.goto("/calls")
    assert page.get_by_role("row").count() == min(shown.proxy.logged(), 50) + 1
    page.goto("/tasks")
    expect(page.get_by_role("table")).to_contain_text("triage desk")
    assert shown.proxy.logged() >= LEARNED


def test_what_a_logged_in_browser_sends_to_v1_carries_no_session(open_page: Open, tmp_path: Path) -> None:
    upstream = ReplayUpstream(answerer=lambda request: "Hello!")
    upstream.start()
    with running(tmp_path, upstream_url=upstream.base_url, encoder="") as proxy:
        page = open_page(root=proxy.root)
        [cookie] = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.goto("/v1/models")
        sent = {name.lower(): value for name, value in upstream.last["headers"].items()}
        assert sent["sec-fetch-dest"] == "document"  # it was the browser
        assert "cookie" not in sent
        assert ADMIN_TOKEN not in str(sent)
        page.close()
    upstream.stop()

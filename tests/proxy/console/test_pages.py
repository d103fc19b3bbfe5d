"""The console's pages: who gets in, what forms may do, what strangers' texts can't."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Any

import httpx
import orjson
import pytest

from proxy.auth import Role
from proxy.console import assets
from proxy.promotion.moves import demote_cluster
from proxy.transport.headers import SESSION_COOKIE
from router.promotion import Cause
from storage.models import PromotionRow
from storage.records import Attempt
from storage.repositories import promotions
from tests.proxy.console.conftest import HOST, TOKEN, Console

PAGES = [
    "/",
    "/tasks",
    "/tasks/c-1",
    "/tasks/c-1/promote?model=m&stage=live",
    "/calls",
    "/runs",
    "/models",
    "/audit",
    "/keys",
]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}\u202egnirts"


@pytest.mark.parametrize("path", [*PAGES, "/tasks/c-1/demote", "/calls/x", "/calls/x/request"])
async def test_a_stranger_is_sent_to_the_login(console: Console, path: str) -> None:
    console.learn()
    for cookie in ("", "made.up", console.cookie()[:-2]):
        console.client.cookies.set(SESSION_COOKIE, cookie, domain="127.0.0.1")
        answer = await console.client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
        assert "triage desk" not in answer.text


@pytest.mark.parametrize("path", [*PAGES, "/login", "/tasks/c-none", "/calls?before=x", "/calls?reason=none"])
async def test_every_page_keeps_to_itself(console: Console, path: str) -> None:
    console.learn()
    console.log()
    console.log_in()
    answer = await console.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", answer.text)
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
        assert address.startswith(("/", "#")), address


async def test_the_token_opens_and_logging_out_closes(console: Console) -> None:
    answer = await console.client.post("/login", data={"token": f" {TOKEN}\n", "next": "/tasks"})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # this is http://127.0.0.1
    assert TOKEN not in cookie
    there = await console.client.get(answer.headers["location"])
    assert there.headers["location"] == "/tasks"
    await console.page("/tasks")
    await console.send("/logout")
    assert (await console.client.get("/tasks")).status_code == 303


@pytest.mark.parametrize(
    ("host", "secure"),
    [
        ("127.0.0.1", False), ("localhost:8000", False), ("[::1]:8000", False), ("127.1.2.3", False),
        ("understudy.example", True), ("10.0.0.5:8000", True), ("127.0.0.1.example", True),
    ],
)  # fmt: skip
async def test_the_cookie_crosses_no_network_in_the_clear(console: Console, host: str, secure: bool) -> None:
    answer = await console.client.post("/login", data={"token": TOKEN}, headers={"host": host})
    assert ("Secure" in answer.headers["set-cookie"]) is secure
    lost = await console.client.get(answer.headers["location"], headers={"host": host, "cookie": ""})
    assert "did not keep the session" in lost.text  # a browser that refuses the cookie is told why


async def test_wrong_tokens_are_refused_then_slowed_down(console: Console) -> None:
    for _ in range(5):
        answer = await console.client.post("/login", data={"token": "wrong"})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    for token in ("wrong", TOKEN):
        answer = await console.client.post("/login", data={"token": token})
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "/a\r\nb: c", ""])
async def test_the_login_leads_to_no_other_site(console: Console, wanted: str) -> None:
    answer = await console.client.post("/login", data={"token": TOKEN, "next": wanted})
    there = await console.client.get(answer.headers["location"])
    assert there.headers["location"] == "/"


async def test_a_link_from_elsewhere_does_not_log_out(console: Console) -> None:
    """The browser keeps a strict cookie back then; the page that asks again gets it."""
    answer = await console.client.get("/tasks", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.text


async def test_a_page_that_asks_again_finds_its_way_to_the_login(console: Console) -> None:
    answer = await console.client.get("/calls", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (204, "true")


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, ""),
        ({}, "0" * 32),
        ({"sec-fetch-site": "cross-site"}, None),
        ({"sec-fetch-site": "same-site"}, None),
        ({"origin": "https://evil.example"}, None),
        ({"origin": "null"}, None),
    ],
)
@pytest.mark.parametrize("path", ["/tasks/c-1/promote", "/tasks/c-1/demote", "/logout"])
async def test_no_other_site_can_send_a_form(
    console: Console, path: str, headers: dict[str, str], token: str | None
) -> None:
    console.learn()
    console.log_in()
    own = re.findall(r'name="form_token" value="(\w+)"', await console.page("/audit"))[0]
    fields = {"form_token": own if token is None else token, "model": "m", "stage": "shadow"}
    answer = await console.client.post(path, data=fields, headers=headers)
    assert answer.status_code == 403


async def test_the_login_form_is_our_own_too(console: Console) -> None:
    answer = await console.client.post("/login", data={"token": TOKEN}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_huge_form_is_refused(console: Console) -> None:
    answer = await console.client.post("/login", data={"token": "x" * 10**6})
    assert answer.status_code == 413


async def test_a_viewer_sees_and_changes_nothing(console: Console) -> None:
    console.learn()
    console.log_in(Role.VIEWER)
    await console.page("/tasks/c-1")
    await console.send("/tasks/c-1/promote", 403, model="m", stage="shadow")
    await console.send("/tasks/c-1/demote", 403)


async def test_a_key_is_shown_once_and_revoked(console: Console) -> None:
    console.log_in()
    said = (await console.send("/keys", 200, name=HOSTILE.partition("\u202e")[0], role="viewer")).text
    [key] = re.findall(r'<code id="made">(us-key-[^<]+)</code>', said)
    assert "<script>alert" not in said
    assert key not in await console.page("/keys")
    entered = await console.client.post("/login", data={"token": key})
    assert entered.status_code == 303
    console.log_in()
    [key_id] = re.findall(r'action="/keys/(k-[^/]+)/revoke"', said)
    await console.send(f"/keys/{key_id}/revoke")
    assert (await console.client.post("/login", data={"token": key})).status_code == 401


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "a", "role": "god"}, {"name": "a", "max_log": "all"}])
async def test_half_a_key_is_refused(console: Console, fields: dict[str, str]) -> None:
    console.log_in()
    await console.send("/keys", 400, **fields)


async def test_keys_are_the_admins(console: Console) -> None:
    console.log_in(Role.OPERATOR)
    await console.page("/keys", 403)
    await console.send("/keys", 403, name="mine", role="admin")
    await console.send("/keys/k-1/revoke", 403)


async def test_an_operator_may_not_go_without_proof(console: Console) -> None:
    console.learn()
    console.log_in(Role.OPERATOR)
    assert "Only the role admin" in await console.page("/tasks/c-1/promote?model=m&stage=live")
    await console.send("/tasks/c-1/promote", 403, model="m", stage="live", force="yes", reason="because")


async def test_a_promotion_says_what_is_missing_before_and_after(console: Console) -> None:
    console.learn()
    console.certify("m", disagreement_bound=0.081, failures=3, needed=153)
    console.log_in()
    page = await console.page("/tasks/c-1/promote?model=m&stage=canary&percent=25")
    for figure in ("25.0\xa0%", "8.1\xa0%", "disagreement_bound", "must be at most 0.05", "3 of 70"):
        assert figure in page
    refused = await console.send("/tasks/c-1/promote", 409, model="m", stage="canary", percent="25")
    assert "no valid certificate" in refused.text
    unreasoned = await console.send("/tasks/c-1/promote", 400, model="m", stage="live", force="yes", reason=" ")
    assert "force needs a reason" in unreasoned.text


async def test_what_no_longer_holds_is_not_shown_as_proof(console: Console) -> None:
    console.learn()
    console.certify("m")
    console.log_in()
    assert "proves nothing today" not in await console.page("/tasks/c-1")
    console.certify("m", expires_at=datetime.now(UTC) - timedelta(days=1))
    page = await console.page("/tasks/c-1")
    assert "proves nothing today" in page
    assert "got another answer" in page


@pytest.mark.parametrize(
    ("cause", "figures", "said"),
    [
        (
            Cause.BOUND_BROKEN,
            {"alarm": "disagreement", "n": 60, "failures": 9, "low": 0.051, "high": 0.31, "alpha": 0.05},
            "disagreement between 5.1 % and 31.0 %, the risk is 5.0 %",
        ),
        (Cause.BOUND_BROKEN, {"alarm": "slm", "n": 60, "failures": 9, "low": 0, "high": 1, "alpha": 1}, "bound broken"),
        (Cause.DRIFT, {"alarm": "far", "n": 200, "far": 20, "limit": 12.5}, "drift: it said why"),
        (Cause.UNPROVED, {"teacher": "certified for 'a', it is now 'b'"}, "certified for"),
        (Cause.EVIDENCE, {"n": 180, "failures": 0, "disagreement_bound": 0.017}, "0 of 180 otherwise, bound 1.7 %"),
        (Cause.EVIDENCE, {"n": 180, "failures": "0", "disagreement_bound": None}, "evidence: it said why"),
        (Cause.SLM_FAILING, {}, "slm failing: it said why"),
        (Cause.TASK_CHANGED, {"split_into": ["c-2", "c-3"]}, "task changed: it said why"),
    ],
)  # fmt: skip
async def test_whatever_ended_an_slm_its_task_has_a_page(
    console: Console, cause: Cause, figures: dict[str, Any], said: str
) -> None:
    console.learn()
    with console.state.database.write() as session:
        row = PromotionRow(
            cluster_id="c-1", model="m", stage="live", slm="main", forced=False, share=1.0, actor="a",
            created_at=datetime.now(UTC),
        )  # fmt: skip
        promotions.promote(session, row)
    demote_cluster(console.state.database, "c-1", "watch", cause, "it said why", figures)
    console.log_in()
    page = await console.page("/tasks/c-1")
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())
    assert "live → retired" in words
    assert said in words


async def test_a_page_that_fails_says_so_as_a_page(console: Console) -> None:
    console.learn(contract={"kind": "label", "labels": 5})  # as no version writes it
    console.log_in()
    assert "its log says what" in await console.page("/tasks/c-1", 500)


async def test_training_is_asked_for_on_the_tasks_page_and_leads_to_its_run(console: Console) -> None:
    console.learn(conversations=300)
    console.log(cluster_id="c-1", cost_usd=10_000.0)
    console.log_in()
    assert "worth training: 300 conversations" in await console.page("/tasks/c-1")
    asked = await console.send("/runs", cluster="c-1")
    run = await console.page(asked.headers["location"])
    assert "c-1" in run, run
    assert "worth training" not in await console.page("/tasks/c-1")
    await console.send("/runs", 404, cluster="c-none")


async def test_a_proved_slm_on_a_dead_server_is_refused_in_words(console: Console) -> None:
    console.learn()
    console.certify("m")
    console.log_in()
    assert "Nothing is missing" in await console.page("/tasks/c-1/promote?model=m&stage=live")
    refused = await console.send("/tasks/c-1/promote", 409, model="m", stage="live")
    assert "can’t be reached" in refused.text or "can&#39;t be reached" in refused.text


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "", "stage": "live"}, {"model": "m", "stage": "retired"}, {"model": "m"},
        {"model": "m" * 201, "stage": "live"},
        {"model": "m", "stage": "canary", "percent": "many"}, {"model": "m", "stage": "canary", "percent": "0"},
        {"model": "m", "stage": "canary", "percent": "nan"}, {"model": "m", "stage": "canary", "percent": "101"},
    ],
)  # fmt: skip
async def test_half_a_wish_is_refused(console: Console, fields: dict[str, str]) -> None:
    console.learn()
    console.log_in()
    await console.send("/tasks/c-1/promote", 400, **fields)


async def test_markup_in_prompts_stays_text(console: Console) -> None:
    asked = orjson.dumps({"model": HOSTILE, "messages": [{"role": HOSTILE, "content": HOSTILE}], HOSTILE: HOSTILE})
    tool = {"function": {"name": HOSTILE, "arguments": HOSTILE}}
    answered = orjson.dumps({"choices": [{"message": {"content": HOSTILE, "tool_calls": [tool]}}]})
    attempt = Attempt(HOSTILE, HOSTILE, HOSTILE, 200, 5.0, answered)
    call_id = console.log(
        request_body=asked, response_body=answered, cluster_id="c-1", agent=HOSTILE, session=HOSTILE, call_site=HOSTILE,
        upstream=HOSTILE, attempts=(attempt,), reason=HOSTILE, path=f"/v1/{HOSTILE}",
    )  # fmt: skip
    contract = {"kind": "json", "labels": [HOSTILE], "schema": {HOSTILE: HOSTILE}, "tools": {HOSTILE: {}}}
    console.learn(label=HOSTILE, skeleton=HOSTILE, contract=contract, examples=[call_id])
    console.register(HOSTILE)
    console.certify(HOSTILE, comparator=HOSTILE)
    console.log_in()
    pages = [*PAGES, f"/calls/{call_id}"]
    for path in pages:
        page = await console.page(path)
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert "\u202e" not in page, path
        assert "49gnirts" not in page, path


async def test_a_huge_call_makes_a_small_page(console: Console) -> None:
    messages = [{"role": "user", "content": "word " * 2000}] * 900
    call_id = console.log(
        request_body=orjson.dumps({"messages": messages, "tools": [{"name": "t" * 9999}] * 999, "more": "y" * 10**6}),
        response_body=b"z" * 10**7, agent="a" * 10**4,
    )  # fmt: skip
    console.learn(label="l" * 10**5, skeleton="s" * 10**5 + "\n" * 10**4, examples=[call_id] * 50)
    console.log_in()
    for path in (*PAGES, f"/calls/{call_id}"):
        assert len(await console.page(path)) < 2 * 10**6, path


async def test_raw_bytes_are_kept_and_not_shown(console: Console) -> None:
    call_id = console.log(request_body=b"<script>")
    console.log_in()
    answer = await console.client.get(f"/calls/{call_id}/request")
    assert answer.content == b"<script>"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_calls_are_paged_and_filtered(console: Console) -> None:
    for number in range(60):
        console.log(served_by="slm" if number % 20 == 0 else "llm", arrived_at_ns=(1_750_000_000 + number) * 10**9)
    console.log_in()
    first = await console.page("/calls")
    assert first.count('<a id="c-') == 50
    [older] = re.findall(r'href="(/calls\?before=[^"]+)"', first)
    assert (await console.page(older)).count('<a id="c-') == 10
    assert (await console.page("/calls?served_by=slm")).count('<a id="c-') == 3
    assert (await console.page("/calls?task=c-9&agent=none")).count('<a id="c-') == 0


async def test_an_empty_log_says_how_to_begin(console: Console) -> None:
    console.log_in()
    page = await console.page("/")
    assert f"base_url=&#34;{HOST}/v1&#34;" in page or f'base_url="{HOST}/v1"' in page
    console.log()
    assert "Net savings" in await console.page("/")


async def test_a_loss_is_called_one_and_unpriced_calls_are_said(console: Console) -> None:
    console.log(cost_usd=None, arrived_at_ns=time_ns())
    console.log(served_by="slm", cost_usd=4.0, arrived_at_ns=time_ns())
    console.log_in()
    page = await console.page("/")
    assert "Net loss" in page
    assert '<p class="money" id="net">−$4.00</p>' in page
    assert "1 answered call named a model without a known price" in page


async def test_a_dead_database_is_said_on_the_page(tmp_path: Path, console: Console) -> None:
    console.log_in()
    console.state.database.close()
    (tmp_path / "understudy.db").write_bytes(b"no database" * 1000)
    page = await console.page("/tasks", 503)
    assert "Agents are not affected" in page


@pytest.mark.parametrize("path", ["/tasks/c-none", "/calls/01890000-0000-7000-8000-000000000000"])
async def test_what_is_not_there_is_said_on_a_page(console: Console, path: str) -> None:
    console.log_in()
    assert "Not here" in await console.page(path, 404)


@pytest.mark.parametrize("name", ["console.css", "htmx.min.js", "icon.svg"])
async def test_assets_are_kept_by_browsers_and_hold_nothing_from_elsewhere(console: Console, name: str) -> None:
    answer = await console.client.get(assets.address(name))
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    if name != "htmx.min.js":  # a library that asks nobody by itself; its documentation's address stands in it
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", answer.text)


@pytest.mark.parametrize("name", ["LICENSE.htmx", "..%2fsession.py", "%2e%2e/session.py", "console.css/x", ""])
async def test_nothing_else_is_served_as_an_asset(console: Console, name: str) -> None:
    assert (await console.client.get(f"/static/{name}")).status_code == 404


def test_the_script_came_with_its_licence() -> None:
    static = Path(assets.__file__).parent / "static"
    assert "Zero-Clause BSD" in (static / "LICENSE.htmx").read_text()
    assert httpx.URL(assets.address("htmx.min.js")).path == "/static/htmx.min.js"

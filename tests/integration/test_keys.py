"""Keys of the proxy's own: what each opens and forbids, on a running proxy with two workers, and its end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from proxy.serving import POLL_SECONDS
from tests.conftest import ADMIN_TOKEN, Proxy, running, understudy, wait_for
from tests.integration.scripted import Scripted

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TRIES = 12  # so many calls reach both workers
CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))  # a connection for each call: to any worker


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def proxy(upstream: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("proxy"), workers=2, upstream_url=upstream.base_url) as proxy:
        yield proxy


def make(proxy: Proxy, **wish: Any) -> dict[str, Any]:
    """A new key, once both workers know it."""
    made = proxy.admin("POST", "/keys", json={"name": "bot"} | wish)
    assert made.status_code == 201, made.text
    key: dict[str, Any] = made.json()
    wait_for(lambda: statuses(proxy, key["key"]) == {200}, 5)
    time.sleep(1.5 * POLL_SECONDS)  # one worker may have answered all of them
    return key


def ask(proxy: Proxy, key: str, **headers: str) -> httpx.Response:
    sent = {"authorization": "Bearer llm-key", "x-understudy-key": key} | headers
    return CLIENT.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers=sent)


def statuses(proxy: Proxy, key: str) -> set[int]:
    return {ask(proxy, key).status_code for _ in range(TRIES)}


def admin(proxy: Proxy, key: str, method: str, path: str, **arguments: Any) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return CLIENT.request(method, f"{proxy.root}/admin/v1{path}", headers=headers, **arguments).status_code


def test_a_key_stays_here_and_the_llms_own_goes_on(proxy: Proxy, upstream: Scripted) -> None:
    key = make(proxy)["key"]
    assert ask(proxy, key).status_code == 200
    head, _ = upstream.requests[-1]
    assert b"llm-key" in head
    assert b"us-key-" not in head


def test_a_key_in_the_place_of_the_llms_is_refused_and_never_leaks(proxy: Proxy, upstream: Scripted) -> None:
    key, before = make(proxy)["key"], len(upstream.requests)
    for authorization in (f"Bearer {key}", "Bearer us-key-nobodys"):
        refused = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"authorization": authorization})
        assert refused.status_code == 401
        assert "x-understudy-key" in refused.json()["error"]["message"]
    assert b"us-key-" not in b"".join(head for head, _ in upstream.requests[before:])


def test_a_key_is_the_clients_only_one_where_the_proxy_has_the_llms(upstream: Scripted, serve: Any) -> None:
    proxy = serve(upstream_url=upstream.base_url, upstream_api_key="the-llms-own")
    made = proxy.admin("POST", "/keys", json={"name": "bot"}).json()
    headers = {"authorization": f"Bearer {made['key']}"}
    assert httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers=headers).status_code == 200
    head, _ = upstream.requests[-1]
    assert b"the-llms-own" in head
    assert b"us-key-" not in head


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/files"])
def test_where_a_key_is_required_nothing_else_gets_to_the_llm(upstream: Scripted, serve: Any, path: str) -> None:
    proxy, before = serve(upstream_url=upstream.base_url, require_key="true"), len(upstream.requests)
    for headers in ({}, {"authorization": "Bearer llm-key"}, {"x-understudy-key": ""}):
        refused = httpx.post(f"{proxy.base_url}{path}", json=CHAT, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(upstream.requests) == before
    key = proxy.admin("POST", "/keys", json={"name": "bot"}).json()["key"]
    assert httpx.post(f"{proxy.base_url}{path}", json=CHAT, headers={"x-understudy-key": key}).status_code == 200


def test_a_key_is_looked_at_before_the_body_is_taken(proxy: Proxy) -> None:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: proxy\r\nx-understudy-key: us-key-nobodys\r\n"
        "content-length: 20000000\r\nexpect: 100-continue\r\n\r\n"
    )
    address = urlsplit(proxy.root)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_revoked_key_opens_nothing_on_any_worker(proxy: Proxy) -> None:
    made = make(proxy, role="viewer")
    assert proxy.admin("DELETE", f"/keys/{made['key_id']}").json()["revoked_by"] == "admin"
    wait_for(lambda: statuses(proxy, made["key"]) == {401}, 5)
    assert admin(proxy, made["key"], "GET", "/clusters") == 401
    assert ask(proxy, "us-key-nobodys").json()["error"]["code"] == "invalid_api_key"


def test_a_key_can_keep_its_calls_with_the_llm(proxy: Proxy) -> None:
    key = make(proxy, may_divert=False)["key"]
    assert ask(proxy, key).headers["x-understudy-reason"] == "key_policy"
    assert ask(proxy, make(proxy)["key"]).headers["x-understudy-reason"] == "no_snapshot"
    assert proxy.metric('understudy_decisions_total{reason="key_policy"}') >= 1


def test_only_a_key_that_allows_it_asks_for_the_slm(proxy: Proxy) -> None:
    route = {"x-understudy-route": "slm"}
    assert ask(proxy, make(proxy)["key"], **route).status_code == 403
    assert ask(proxy, make(proxy, may_force=True)["key"], **route).status_code == 200
    assert proxy.admin("POST", "/keys", json={"name": "b", "may_force": True, "may_divert": False}).status_code == 400


def test_no_more_of_a_keys_calls_is_kept_than_it_allows(proxy: Proxy) -> None:
    key = make(proxy, max_log="metadata")["key"]
    kept = ask(proxy, key, **{"x-understudy-log": "full"}).headers["x-understudy-call-id"]
    wait_for(lambda: proxy.admin("GET", f"/calls/{kept}").status_code == 200)
    assert proxy.admin("GET", f"/calls/{kept}").json()["request_body"] is None
    silent = ask(proxy, make(proxy, max_log="off")["key"]).headers["x-understudy-call-id"]
    last = ask(proxy, key).headers["x-understudy-call-id"]
    wait_for(lambda: proxy.admin("GET", f"/calls/{last}").status_code == 200)
    assert proxy.admin("GET", f"/calls/{silent}").status_code == 404


def test_calls_are_logged_under_the_key_and_not_under_what_stands_beside_it(proxy: Proxy) -> None:
    key = make(proxy)["key"]
    ids = [ask(proxy, key, authorization=f"Bearer {other}").headers["x-understudy-call-id"] for other in ("one", "two")]
    wait_for(lambda: all(proxy.admin("GET", f"/calls/{each}").status_code == 200 for each in ids))
    [origin] = {proxy.admin("GET", f"/calls/{each}").json()["origin"] for each in ids}
    assert origin


@pytest.mark.parametrize(
    ("role", "method", "path", "body", "status"),
    [
        (None, "GET", "/clusters", None, 403),
        ("viewer", "GET", "/clusters", None, 200),
        ("viewer", "GET", "/audit", None, 200),
        ("viewer", "POST", "/clusters/c/promotions", {"model": "m", "stage": "live"}, 403),
        ("viewer", "GET", "/keys", None, 403),
        ("operator", "POST", "/clusters/c/promotions", {"model": "m", "stage": "live"}, 404),
        ("operator", "POST", "/clusters/c/promotions", {"model": "m", "stage": "live", "force": True}, 403),
        ("operator", "POST", "/keys", {"name": "mine", "role": "admin"}, 403),
        ("operator", "DELETE", "/calls?origin=00", None, 403),
        ("admin", "POST", "/keys", {"name": "another"}, 201),
    ],
)
def test_a_role_opens_what_it_says(
    proxy: Proxy, role: str | None, method: str, path: str, body: Any, status: int
) -> None:
    key = make(proxy, role=role)["key"]
    assert admin(proxy, key, method, path, json=body) == status


def test_feedback_is_for_operators_and_of_ones_own_calls(proxy: Proxy) -> None:
    key = make(proxy)["key"]
    hers = ask(proxy, key).headers["x-understudy-call-id"]
    wait_for(lambda: proxy.admin("GET", f"/calls/{hers}").status_code == 200)
    raters = {"her": key, "another": make(proxy)["key"]} | {
        role: make(proxy, role=role)["key"] for role in ("viewer", "operator")
    }
    body = {"call_id": hers, "score": 0.5}
    said = {who: admin(proxy, each, "POST", "/feedback", json=body) for who, each in raters.items()}
    assert said == {"her": 201, "another": 404, "viewer": 403, "operator": 201}
    assert len(proxy.admin("GET", f"/calls/{hers}").json()["feedback"]) == 2


def test_keys_are_listed_without_what_opens_and_the_trail_says_who_made_them(proxy: Proxy) -> None:
    made = make(proxy, name="the boss", role="admin")
    shown = next(key for key in proxy.admin("GET", "/keys").json()["data"] if key["key_id"] == made["key_id"])
    assert "key" not in shown
    assert (shown["name"], shown["role"], shown["created_by"]) == ("the boss", "admin", "admin")
    second = httpx.post(
        f"{proxy.root}/admin/v1/keys", json={"name": "x"}, headers={"authorization": f"Bearer {made['key']}"}
    ).json()
    entry = next(line for line in proxy.admin("GET", "/audit").json()["data"] if line["subject"] == second["key_id"])
    assert (entry["action"], entry["actor"]) == ("key.created", f"the boss ({made['key_id']})")
    assert made["key"] not in json.dumps(proxy.admin("GET", "/audit").json())


def test_the_command_line_makes_lists_and_revokes_keys(proxy: Proxy) -> None:
    made = json.loads(understudy("keys", "create", "cli-bot", "--no-divert", "--json", data_dir=proxy.data_dir).stdout)
    assert made["key"].startswith("us-key-")
    wait_for(lambda: statuses(proxy, made["key"]) == {200}, 5)
    table = understudy("keys", "list", data_dir=proxy.data_dir).stdout
    assert "cli-bot" in table
    assert max(map(len, table.splitlines())) <= 80
    assert understudy("keys", "revoke", made["key_id"], data_dir=proxy.data_dir).returncode == 0
    wait_for(lambda: statuses(proxy, made["key"]) == {401}, 5)
    unknown = understudy("keys", "revoke", "k-none", data_dir=proxy.data_dir)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "understudy keys list" in unknown.stderr


def test_the_admin_token_opens_what_a_key_does_not(proxy: Proxy) -> None:
    assert admin(proxy, ADMIN_TOKEN, "GET", "/keys") == 200

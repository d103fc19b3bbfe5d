"""The admin API: who gets in, what it shows, and how it says no. The smallest app, without processes."""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.promotion.moves import Wish
from router.promotion import Stage
from storage.cipher import Cipher
from storage.ids import format_call_id
from storage.models import PromotionRow
from storage.records import CallFacts
from storage.repositories import clusters, promotions
from tests.proxy.in_process import TOKEN, InProcess, app_with_client
from tests.storage.conftest import damage_block


class Api(InProcess):
    """The admin API of an app."""

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.client.get(f"/admin/v1{path}")
        assert answer.status_code == status, answer.text
        return answer.json()

    def log(self, *numbers: int, cost_usd: float | None = 1.0, **values: Any) -> None:
        """Calls with ids made of `numbers`; those of an SLM avoided twice their cost."""
        avoided = 2.0 if values.get("served_by") == "slm" else None
        facts = CallFacts(model_requested="gpt-4o", cost_usd=cost_usd, counterfactual_usd=avoided, wasted_usd=0.25)
        bodies = {"request_body": b'{"model": "gpt-4o",  "messages": []}', "response_body": b"data: [DONE]\n\n"}
        for number in numbers:
            self.insert(bytes([1] * 14) + (256 + number).to_bytes(2), facts, **bodies | values)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with app_with_client(tmp_path, base_url="http://test", headers=headers) as (app, client):
        yield Api(app, client)


GUARDED = ["/clusters", "/clusters/c-1", "/models", "/calls", "/calls/x", "/calls/x/request", "/savings", "/audit"]


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("authorization", ["", "Bearer wrong", f"Basic {TOKEN}"])
async def test_nothing_opens_without_the_token(api: Api, path: str, authorization: str) -> None:
    answer = await api.client.get(f"/admin/v1{path}", headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/clusters/c-none", None, 404),
        ("GET", "/calls/no-uuid", None, 400),
        ("GET", "/calls/01890000-0000-7000-8000-000000000000", None, 404),
        ("GET", "/calls?limit=0", None, 400),
        ("GET", "/savings?by=planet", None, 400),
        ("GET", "/savings?from=yesterday", None, 400),
        ("DELETE", "/calls", None, 400),
        ("DELETE", "/calls?origin=xyz", None, 400),
        ("PUT", "/clusters", None, 405),
        ("POST", "/clusters/c-1/promotions", {"model": "m"}, 400),
        ("POST", "/clusters/c-1/promotions", {"model": "m", "stage": "live", "colour": 1}, 400),
        ("POST", "/clusters/c-1/promotions", {"model": "m", "stage": "live"}, 409),
        ("POST", "/clusters/c-1/promotions", {"model": "m", "stage": "canary"}, 409),
        ("POST", "/clusters/c-1/promotions", {"model": "m", "stage": "live", "force": True}, 400),
        ("POST", "/clusters/c-none/promotions", {"model": "m", "stage": "shadow"}, 404),
        ("POST", "/clusters/c-none/promotions", {"model": "m", "stage": "live"}, 404),
        ("GET", "/calls/01890000-0000-7000-8000-000000000000/request", None, 404),
        ("GET", "/calls/01890000-0000-7000-8000-000000000000/elsewhere", None, 400),
        ("POST", "/clusters/c-1/promotions", {"model": "m", "stage": "shadow"}, 409),
        ("DELETE", "/clusters/c-1/promotions/current", None, 404),
        ("POST", "/models", {"name": "m", "slm": "elsewhere"}, 404),
    ],
)
async def test_every_no_has_openais_shape(api: Api, method: str, path: str, body: Any, status: int) -> None:
    api.learn()
    answer = await api.client.request(method, f"/admin/v1{path}", json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["message"]


async def test_a_method_that_a_path_does_not_have_is_named_as_such(api: Api) -> None:
    answer = await api.client.put("/admin/v1/clusters")
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/calls?served=slm", "/calls?limit=1&Limit=2", "/clusters?x", "/savings?form=2026"])
async def test_an_unknown_parameter_is_refused_by_name(api: Api, path: str) -> None:
    refused = (await api.get(path, 400))["error"]["message"]
    assert "has no query parameter" in refused
    assert any(f"'{name}'" in refused for name in ("served", "Limit", "x", "form"))


async def test_live_without_a_certificate_names_the_missing_figures(api: Api) -> None:
    api.learn()
    refused = await api.client.post("/admin/v1/clusters/c-1/promotions", json={"model": "m", "stage": "live"})
    for figure in ("n", "failures", "disagreement_bound"):
        assert figure in refused.json()["error"]["message"]


async def test_what_the_command_line_asks_a_proxy_is_understood(api: Api) -> None:
    """It sends a whole wish, and the answer is about that."""
    api.learn()
    refused = await api.client.post("/admin/v1/clusters/c-1/promotions", json=asdict(Wish("m", Stage.LIVE)))
    assert refused.status_code == 409
    assert "no certificate" in refused.json()["error"]["message"]


async def test_a_task_shows_what_was_proved_and_every_step(api: Api) -> None:
    api.learn()
    none = await api.get("/clusters/c-1")
    assert (none["certificate"], none["certificates"], none["moves"]) == (None, [], [])
    assert none["missing_proof"]["model"] is None
    first = api.certify("m", disagreement_bound=0.0582, n=50)
    details = await api.get("/clusters/c-1")
    assert (details["certificate"]["id"], details["certificate"]["passes"]) == (first, False)
    assert details["missing_proof"]["figures"]["disagreement_bound"] == "0.0582, must be at most 0.05"
    second = api.certify("m")
    [task] = (await api.get("/clusters"))["data"]
    for name, value in {"id": second, "n": 70, "failures": 0, "passes": True, "coverage_low": 0.6}.items():
        assert task["certificate"][name] == value
    row = PromotionRow(
        cluster_id="c-1", model="m", stage="live", share=1.0, slm="main", forced=False, actor="a",
        created_at=datetime.now(UTC), certificate_id=second, min_confidence=0.8,
    )  # fmt: skip
    with api.state.database.write() as session:
        promotions.promote(session, row)
    api.certify("another")
    details = await api.get("/clusters/c-1")
    assert details["certificate"]["id"] == second, "the promoted model's"
    assert [each["model"] for each in details["certificates"]] == ["another", "m", "m"]
    assert (details["missing_proof"]["model"], details["missing_proof"]["missing"]) == ("m", [])
    assert (details["promotion"]["min_confidence"], details["promotions"][0]["certificate_id"]) == (0.8, second)
    await api.client.delete("/admin/v1/clusters/c-1/promotions/current")
    [move] = (await api.get("/clusters/c-1"))["moves"]
    assert (move["from_stage"], move["to_stage"], move["cause"]) == ("live", "retired", "asked")
    assert move["actor"]


async def test_a_task_shows_its_share_of_the_whole(api: Api) -> None:
    api.learn()
    api.log(1, 2, 3, cluster_id="c-1", cost_usd=1.0)
    api.log(4, cost_usd=2.0)
    [task] = (await api.get("/clusters"))["data"]
    assert (task["id"], task["label"], task["stage"]) == ("c-1", "triage desk", None)
    assert (task["calls"], task["share"]["calls"], task["share"]["cost"]) == (3, 0.75, 0.6)
    details = await api.get("/clusters/c-1")
    assert details["skeleton"] == "You are the desk"
    assert "disagreement_bound" in details["missing_proof"]["missing"]


async def test_the_log_is_paged_filtered_and_exact(api: Api) -> None:
    api.log(*range(1, 6))
    api.log(6, served_by="slm", agent="bot")
    first = await api.get("/calls?limit=4")
    rest = await api.get(f"/calls?limit=4&before={first['next']}")
    ids = [call["call_id"] for call in first["data"] + rest["data"]]
    assert (first["total"], rest["next"], len(set(ids))) == (6, None, 6)
    assert ids == sorted(ids, reverse=True)
    [slms] = (await api.get("/calls?served_by=slm&agent=bot"))["data"]
    stored = await api.get(f"/calls/{slms['call_id']}")
    assert stored["request_body"] == {"model": "gpt-4o", "messages": []}
    assert stored["response_body"] == "data: [DONE]\n\n"


async def body_shown(api: Api, **values: Any) -> tuple[str, dict[str, Any]]:
    """Log a call and show it: (the JSON as it is written, what it says)."""
    api.log(1, **values)
    shown = await api.client.get(f"/admin/v1/calls/{format_call_id(bytes([1] * 15 + [1]))}")
    assert shown.headers["content-type"] == "application/json"
    return shown.text, shown.json()


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1,"a":2, "seed": 123456789012345678901234567890}',
        '{\n  "a" : [1.10, 1E2, "\\u00e9\\/"]\n}',
        '"text"',
    ],
)
async def test_json_is_shown_letter_by_letter(api: Api, body: str) -> None:
    written, shown = await body_shown(api, request_body=body.encode())
    assert shown["request_body_form"] == "json"
    assert f'"request_body":{body},' in written


@pytest.mark.parametrize(
    ("body", "form", "seen"),
    [
        (b"data: [DONE]\n\n", "text", "data: [DONE]\n\n"),
        (b'{"a":"\\ud800"}', "text", '{"a":"\\ud800"}'),
        (b"\xff\x00", "hex", {"hex": "ff00"}),
        (b'{"hex": "ff"}', "json", {"hex": "ff"}),
        (b"[" * 2000 + b"]" * 2000, "text", "[" * 2000 + "]" * 2000),  # deeper than its reader's parser may bear
    ],
)
async def test_how_a_body_is_shown_is_said(api: Api, body: bytes, form: str, seen: Any) -> None:
    _, shown = await body_shown(api, request_body=body)
    assert (shown["request_body_form"], shown["request_body"]) == (form, seen)


async def test_the_bytes_of_a_call_are_given_as_they_came(api: Api) -> None:
    answer = b'{"a": 1,  "a": 2}'
    zipped = gzip.compress(answer)
    written, shown = await body_shown(api, response_body=zipped, response_content_encoding="gzip")
    assert f'"response_body":{answer.decode()},' in written
    for part, bytes_ in (("request", b'{"model": "gpt-4o",  "messages": []}'), ("response", zipped)):
        found = await api.client.get(f"/admin/v1/calls/{shown['call_id']}/{part}")
        assert found.content == bytes_
        assert found.headers["content-type"] == "application/octet-stream"
        assert "content-encoding" not in found.headers


async def test_bytes_that_the_log_does_not_keep_are_not_found(api: Api) -> None:
    _, shown = await body_shown(api, log="metadata")
    refused = await api.get(f"/calls/{shown['call_id']}/response", 404)
    assert "logged as 'metadata'" in refused["error"]["message"]


async def test_a_promotion_is_shown_before_this_worker_serves_by_it(api: Api) -> None:
    """It may have been made through another worker a moment ago."""
    api.learn()
    api.state.serving.stop()
    row = PromotionRow(
        cluster_id="c-1", model="m", stage="live", share=1.0, slm="main", forced=True, actor="a",
        created_at=datetime.now(UTC),
    )  # fmt: skip
    with api.state.database.write() as session:
        promotions.promote(session, row)
    assert (await api.get("/clusters/c-1"))["promotion"]["model"] == "m"
    assert (await api.get("/clusters"))["data"][0]["stage"] == "live"


async def test_an_origins_calls_are_deleted_and_that_is_on_record(api: Api) -> None:
    api.log(1, 2)
    api.log(3, origin=b"x" * 16)
    answer = await api.client.delete("/admin/v1/calls", params={"origin": (b"o" * 16).hex()})
    assert answer.json() == {"deleted": 2}
    assert (await api.get("/calls"))["total"] == 1
    [entry] = (await api.get("/audit"))["data"]
    assert (entry["action"], entry["details"]) == ("calls.deleted", {"deleted": 2})


async def test_calls_without_a_key_are_deleted_by_name_only(api: Api) -> None:
    api.log(1, 2, origin=b"")
    api.log(3)
    for empty in ("", " "):
        assert (await api.client.delete("/admin/v1/calls", params={"origin": empty})).status_code == 400
    assert (await api.client.delete("/admin/v1/calls", params={"origin": "none"})).json() == {"deleted": 2}
    assert (await api.get("/calls"))["total"] == 1


@pytest.mark.parametrize("by", ["cluster", "model", "agent", "day"])
async def test_savings_are_net_and_signed(api: Api, by: str) -> None:
    api.log(1, served_by="slm")  # avoided 2, cost 1, wasted 0.25
    api.log(2)  # wasted 0.25
    api.log(3, cost_usd=None)  # wasted 0.25, price unknown
    api.log(4, cost_usd=None, status=429)  # wasted 0.25, nothing to pay
    found = await api.get(f"/savings?by={by}")
    assert found["total"]["savings_usd"] == pytest.approx(2 - 1 - 1.0)
    assert found["unpriced_calls"] == 1
    assert sum(row["savings_usd"] for row in found["data"]) == pytest.approx(found["total"]["savings_usd"])


async def test_a_gpu_is_paid_for_from_the_first_promotion_on(api: Api) -> None:
    api.learn()
    assert (await api.get("/savings"))["total"]["gpu_usd"] == 0
    row = PromotionRow(
        cluster_id="c-1", model="m", stage="live", share=1.0, slm="main", forced=True, actor="a",
        created_at=datetime.now(UTC) - timedelta(hours=3),
    )  # fmt: skip
    with api.state.database.write() as session:
        promotions.promote(session, row)
    total = (await api.get("/savings"))["total"]
    assert total["gpu_usd"] == pytest.approx(6.0, rel=0.01)
    assert total["savings_usd"] == pytest.approx(-6.0, rel=0.01)


async def test_a_task_that_is_worth_an_slm_of_its_own_says_so_until_somebody_tries(api: Api) -> None:
    api.learn(conversations=299)
    api.log(1, 2, 3, cluster_id="c-1", cost_usd=1000.0)
    assert (await api.get("/clusters/c-1"))["training"] is None
    api.learn(calls=300, conversations=300)
    assert "300 conversations" in (await api.get("/clusters/c-1"))["training"]
    asked = await api.client.post("/admin/v1/runs", json={"kind": "train", "cluster": "c-1"})
    assert asked.status_code == 201
    assert (await api.get("/clusters/c-1"))["training"] is None
    api.log(*range(4, 304), cluster_id="c-1", cost_usd=1000.0, arrived_at_ns=time.time_ns())
    assert "some 300 conversations since the last try" in (await api.get("/clusters/c-1"))["training"]


async def test_a_dead_slm_server_is_shown_as_down(api: Api) -> None:
    models = await api.get("/models")
    assert models["servers"]["main"]["up"] is False


async def test_a_registered_model_is_a_candidate(api: Api) -> None:
    api.learn()
    assert (await api.client.post("/admin/v1/models", json={"name": "m", "slm": "main"})).status_code == 201
    [task] = (await api.get("/clusters"))["data"]
    assert [model["name"] for model in task["candidates"]] == ["m"]


async def test_without_a_database_the_api_says_so_and_health_does_not_fail(api: Api, tmp_path: Path) -> None:
    (tmp_path / "understudy.db").unlink()
    (tmp_path / "understudy.db").mkdir()
    assert (await api.get("/clusters", 503))["error"]["code"] == "service_unavailable"
    assert (await api.client.get("/healthz")).status_code == 200
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["database"].startswith("down: ")
    assert (await api.client.get("/metrics")).status_code == 200


async def test_a_log_of_another_key_is_said_to_be_one(api: Api) -> None:
    api.learn()
    foreign = clusters.StoredCluster("c-2", "s", "label", {}, "skeleton", 1, 1, [])
    with api.state.database.write() as session:
        clusters.activate_snapshot(session, Cipher(b"o" * 32), "s", 1, [foreign])
    assert "belongs to another key file" in (await api.get("/clusters", 503))["error"]["message"]


async def test_a_call_in_a_damaged_block_is_listed_and_said_to_be_one(api: Api) -> None:
    api.log(1)
    damage_block(api.state.database)
    api.log(2)
    assert len((await api.get("/calls"))["data"]) == 2
    lost, kept = (format_call_id(bytes([1] * 15 + [number])) for number in (1, 2))
    for path in ("", "/request", "/response"):
        error = (await api.get(f"/calls/{lost}{path}", 503))["error"]
        assert error["message"] == f"the log can't be read: what call {lost} said lies in a damaged block"
    assert (await api.get(f"/calls/{kept}"))["request_body"] == {"model": "gpt-4o", "messages": []}


async def test_the_api_documents_itself(api: Api) -> None:
    paths = (await api.client.get("/admin/openapi.json")).json()["paths"]
    assert {path.removeprefix("/admin/v1") for path in paths} == {
        "/clusters", "/clusters/{cluster_id}", "/clusters/{cluster_id}/promotions",
        "/clusters/{cluster_id}/promotions/current", "/models", "/calls", "/calls/{call_id}", "/calls/{call_id}/{part}",
        "/savings", "/audit", "/runs", "/runs/{run_id}", "/keys", "/keys/{key_id}",
        "/feedback",
    }  # fmt: skip


async def test_feedback_is_kept_shown_with_its_call_and_on_record(api: Api) -> None:
    api.learn()
    api.log(1, served_by="slm", model_resolved="small", cluster_id="c-1")
    call_id = format_call_id(bytes([1] * 16))
    for score, comment in ((1, None), (-0.5, "it is billing")):
        given = await api.client.post(
            "/admin/v1/feedback", json={"call_id": call_id, "score": score, "comment": comment}
        )
        assert given.status_code == 201, given.text
    [shown] = (await api.get(f"/calls/{call_id}"))["feedback"]
    assert shown == given.json()
    assert (shown["actor"], shown["score"], shown["comment"]) == ("admin", -0.5, "it is billing")
    assert (await api.get("/clusters/c-1"))["feedback"] == [{"model": "small", "good": 0, "poor": 1}]
    entry = (await api.get("/audit"))["data"][0]
    assert (entry["action"], entry["subject"], entry["details"]) == ("feedback.given", call_id, {"score": -0.5})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('"score": NaN', 400),
        ('"score": -Infinity', 400),
        ('"score": 1.01', 400),
        ('"score": -1.01', 400),
        ('"score": true', 400),
        ('"score": "1"', 400),
        ('"score": null', 400),
        ('"comment": "no score"', 400),
        ('"score": 1, "stars": 5', 400),
        ('"score": 1, "comment": "\\ud800"', 400),
        ('"score": 1, "comment": "%s"' % ("x" * 4001), 400),
        ('"score": 1, "call_id": "nobody"', 400),
        ('"score": 1', 404),
    ],
)
async def test_feedback_that_says_nothing_is_refused(api: Api, body: str, status: int) -> None:
    sent = f'{{"call_id": "{format_call_id(b"n" * 16)}", {body}}}'
    answer = await api.client.post("/admin/v1/feedback", content=sent, headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text

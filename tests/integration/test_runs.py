"""Runs as an operator has them: asked for over HTTP, done by the learner beside the proxy."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, running, understudy, wait_for

# What is learned has the lowest priority, and the machine may be busy.
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Learns, too; with ten calls in its log."""
    upstream = ReplayUpstream(answerer=lambda request: "billing")
    upstream.start()
    directory = tmp_path_factory.mktemp("runs")
    with running(directory, learner=True, upstream_url=upstream.base_url, encoder="") as proxy:
        yield proxy
    upstream.stop()


def status(proxy: Proxy, run_id: str) -> str:
    said: str = proxy.admin("GET", f"/runs/{run_id}").json()["status"]
    return said


def test_tasks_are_learned_by_an_admin_call(proxy: Proxy) -> None:
    import httpx

    for number in range(10):
        body = {"model": "gpt-4o", "messages": [
            {"role": "system", "content": "You sort tickets.\nAnswer with one word."},
            {"role": "user", "content": f"Ticket {number}: refund please"},
        ]}  # fmt: skip
        assert httpx.post(f"{proxy.base_url}/chat/completions", json=body).status_code == 200
    wait_for(lambda: proxy.logged() == 10)
    asked = proxy.admin("POST", "/runs", json={"kind": "learn"})
    assert asked.status_code == 201, asked.text
    run_id = asked.json()["id"]
    wait_for(lambda: status(proxy, run_id) in ("done", "failed"), PATIENCE_SECONDS)
    run = proxy.admin("GET", f"/runs/{run_id}").json()
    assert (run["status"], run["error"], run["kind"]) == ("done", None, "learn")
    assert run["record"].startswith("10 calls, 1 tasks, 0 calls in none")
    [stage] = run["stages"]
    assert stage["figures"]["calls"] == 10
    assert run["lines"]
    assert [cluster["calls"] for cluster in proxy.admin("GET", "/clusters").json()["data"]] == [10]
    actions = [(entry["action"], entry["subject"]) for entry in proxy.admin("GET", "/audit").json()["data"]]
    assert ("run.asked", run_id) in actions
    listed = understudy("runs", "--json", data_dir=proxy.data_dir)
    assert [each["id"] for each in json.loads(listed.stdout)] == [run_id]
    followed = understudy("runs", run_id, data_dir=proxy.data_dir)
    assert (followed.returncode, followed.stdout.strip()) == (0, run["record"])


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"kind": "train", "cluster": "c-none"}, 404, "there is no cluster c-none"),
        ({"kind": "train"}, 400, "a run of kind train needs a cluster"),
        ({"kind": "evaluate", "cluster": "c-none"}, 400, "needs a model"),
        ({"kind": "learn", "cluster": "c-1"}, 400, "takes no cluster"),
        ({"kind": "sleep"}, 400, "kind:"),
        ({"kind": "learn", "when": "now"}, 400, "when:"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_at_once(
    proxy: Proxy, body: dict[str, str], code: int, said: str
) -> None:
    answer = proxy.admin("POST", "/runs", json=body)
    assert answer.status_code == code
    assert said in answer.json()["error"]["message"]


def test_a_run_that_is_not_there_is_not_found(proxy: Proxy) -> None:
    for method in ("GET", "DELETE"):
        answer = proxy.admin(method, "/runs/01a1fdf0-8985-7627-8b40-77b21180bb85")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_the_learner_is_replaced_when_it_dies_and_calls_are_served_meanwhile(proxy: Proxy) -> None:
    wait_for(lambda: proxy.children("learner"))
    [learner] = proxy.children("learner")
    workers = proxy.children("worker")
    learner.kill()
    asked = proxy.admin("POST", "/runs", json={"kind": "learn"})
    assert asked.status_code == 201
    again = proxy.admin("POST", "/runs", json={"kind": "learn"})
    assert (again.status_code, again.json()["id"]) == (200, asked.json()["id"])
    wait_for(lambda: status(proxy, asked.json()["id"]) == "done", PATIENCE_SECONDS)
    [successor] = proxy.children("learner")
    assert successor.pid != learner.pid
    assert proxy.children("worker") == workers
    assert "learner.died" in proxy.errors.read_text()
    ended = proxy.admin("DELETE", f"/runs/{asked.json()['id']}")
    assert (ended.status_code, ended.json()["error"]["code"]) == (409, "conflict")
    page = proxy.admin("GET", "/runs?limit=1").json()
    assert [run["id"] for run in page["data"]] == [asked.json()["id"]]
    rest = proxy.admin("GET", f"/runs?before={page['next']}").json()
    assert (len(rest["data"]), rest["next"]) == (1, None)


def test_a_machine_that_only_serves_keeps_runs_for_others(tmp_path: Path) -> None:
    with running(tmp_path, upstream_url="http://127.0.0.1:9/v1") as proxy:
        run_id = proxy.admin("POST", "/runs", json={"kind": "learn"}).json()["id"]
        assert proxy.children("learner") == []
        assert status(proxy, run_id) == "queued"
        cancelled = proxy.admin("DELETE", f"/runs/{run_id}")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        tree = psutil.Process(proxy.process.pid).children(recursive=True)
    assert psutil.wait_procs(tree, timeout=10)[1] == []

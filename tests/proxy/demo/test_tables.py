"""What the demo ends with fits a terminal and says what was counted."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from rich.console import Console

from proxy.demo.agents import AGENTS
from proxy.demo.operator import Operator
from proxy.demo.servers import DemoFailed
from proxy.demo.tables import Outcome, show
from proxy.demo.traffic import Score

CERTIFICATE = {"failures": 1, "n": 124, "disagreement_bound": 0.0377, "threshold": 0.91, "passes": True}
PROVED = {"contract": {"kind": "json"}, "stage": "live", "certificate": CERTIFICATE, "moves": [{}]}
WITHDRAWN = PROVED | {"stage": None}
FREE = {"contract": {"kind": "text"}, "stage": None, "certificate": None, "moves": []}
SAVED = {"cost_usd": 0.3, "slm_cost_usd": 0.0, "counterfactual_usd": 0.5, "savings_usd": 0.42, "audit_usd": 0.08}
SAVED |= {"gpu_usd": 0.0, "training_usd": 0.0, "shadow_usd": 0.0, "wasted_usd": 0.0}


def answer(request: httpx.Request) -> httpx.Response:
    """An admin API."""
    path = request.url.path
    if path.endswith("/savings"):
        return httpx.Response(200, json={"total": SAVED})
    shown: dict[str, dict[str, Any]] = {"triage": WITHDRAWN, "languages": PROVED, "rooms": PROVED}
    return httpx.Response(200, json=shown.get(path.rpartition("/")[2], FREE))


@pytest.fixture
def operator() -> Operator:
    return Operator(httpx.Client(base_url="http://proxy", transport=httpx.MockTransport(answer)))


def test_the_tables_say_what_was_proved_served_and_saved(operator: Operator) -> None:
    outcome = Outcome(
        proved={"triage": Score(100, 0, 5, 5), "rooms": Score(100, 0, 4, 4)},
        served={"triage": Score(60, 0, 58, 57), "letters": Score(20, 0, 0, 0)},
        changed=Score(40, 0, 39, 20),
        after=Score(20, 0, 0, 0),
    )
    file = io.StringIO()
    tasks = {agent.name: agent.name for agent in AGENTS}
    show(Console(file=file, width=80), operator, tasks, outcome, datetime.now(UTC))
    lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    assert "triage json withdrawn 1 of 124 3.8% 0.910" in lines
    assert "languages json live 1 of 124 3.8% 0.910" in lines
    assert "letters text LLM none" in lines
    assert "triage 160 63 1 (1.6%) 97" in lines
    assert "letters 20 0 0 20" in lines
    assert "triage, LLM changed 40 39 19 (48.7%) 1" in lines
    assert "triage, withdrawn 20 0 0 20" in lines
    assert "spared: what it would have asked for the SLMs' answers 0.5000" in lines
    assert "less audit copies -0.0800" in lines
    assert "saved, net 0.4200" in lines
    assert max(map(len, file.getvalue().splitlines())) <= 80


def test_what_the_admin_api_refuses_ends_the_demo_with_its_words() -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(409, text="no certificate"))
    with pytest.raises(DemoFailed, match="no certificate"):
        Operator(httpx.Client(base_url="http://proxy", transport=refusing)).get("/clusters")


def test_a_task_that_was_not_found_is_named() -> None:
    empty = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    with pytest.raises(DemoFailed, match="rooms"):
        Operator(httpx.Client(base_url="http://proxy", transport=empty)).tasks({"rooms": "You are the clerk."})

"""The dashboards: written by the code beside them, and every panel shows something."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import FOLDER, written
from tests.deploy.conftest import Watched
from tests.deploy.prometheus import RULES

PROVISIONED = FOLDER.parent / "provisioning"
BOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}


def queries() -> Iterator[Any]:
    """Every expression of every panel."""
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield pytest.param(target["expr"], id=f"{name}: {panel['title']} {target['refId']}")


def value(watched: Watched, board: str, title: str) -> float:
    [panel] = [panel for panel in BOARDS[board]["panels"] if panel["title"] == title and panel["type"] == "stat"]
    [found] = watched.prometheus.values(panel["targets"][0]["expr"])
    return found


def test_the_dashboards_are_what_the_code_writes() -> None:
    committed = {file.name: file.read_text() for file in FOLDER.iterdir()}
    assert committed == written(), "write them again: python -m deploy.grafana"


def test_the_dashboards_are_the_three_that_the_issue_names() -> None:
    assert {board["uid"]: board["title"] for board in BOARDS.values()} == {
        "understudy-savings": "Understudy: Savings",
        "understudy-quality": "Understudy: Quality",
        "understudy-operations": "Understudy: Operations",
    }


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_grid_without_overlap_and_explain_themselves(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith("."), panel["title"]
        taken |= cells


@pytest.mark.parametrize("expression", list(queries()))
def test_every_panel_shows_something(watched: Watched, expression: str) -> None:
    assert watched.prometheus.values(expression)


def test_the_figures_are_those_of_the_traffic(watched: Watched) -> None:
    saved = watched.proxy.admin("GET", "/savings").json()["total"]["savings_usd"]
    assert value(watched, "savings", "Net savings, whole log") == pytest.approx(saved)
    assert saved > 0
    assert 0 < value(watched, "savings", "Spent") < value(watched, "savings", "Without SLMs")
    assert 0 < value(watched, "savings", "Served by an SLM") < 1
    assert 0.2 < value(watched, "quality", "Fallbacks") < 0.6
    assert value(watched, "operations", "Calls lost to the log") == 0


def test_every_metric_is_on_a_dashboard(watched: Watched) -> None:
    scraped = watched.prometheus.api("/label/__name__/values")
    measured = {
        re.sub("_(bucket|sum|count)$", "", name) for name in scraped if re.match("understudy_(?!.*_created$)", name)
    }
    asked = " ".join(
        [expression.values[0] for expression in queries()] + [rule["expr"] for rule in RULES if "record" in rule]
    )
    assert {name for name in measured if name not in asked} == set()


def test_the_way_from_a_slow_call_to_its_log_is_passable(watched: Watched) -> None:
    [panel] = [panel for panel in BOARDS["operations"]["panels"] if panel["type"] == "text"]
    [path] = re.findall(r"/admin/v1(/calls\?\S+)'", panel["options"]["content"])
    found = watched.proxy.admin("GET", path).json()["data"]
    assert watched.slow_call in {call["call_id"] for call in found}
    assert all(call["duration_ms"] > 1000 for call in found)


def test_grafana_is_pointed_at_the_dashboards_and_at_prometheus() -> None:
    compose = yaml.safe_load((FOLDER.parents[2] / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    [provider] = yaml.safe_load((PROVISIONED / "dashboards" / "understudy.yml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = compose["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/savings.json"
    [source] = yaml.safe_load((PROVISIONED / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"

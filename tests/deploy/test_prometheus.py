"""The scrape configuration, the rules and the alerts, in the real Prometheus."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.conftest import Watched
from tests.deploy.prometheus import FOLDER, RULES

HERE = Path(__file__).parent
RUNBOOKS = HERE.parents[1] / "docs" / "operating.md"
RECORDED = [rule for rule in RULES if "record" in rule]
ALERTS = [rule for rule in RULES if "alert" in rule]
COMPARED = re.compile(r"(.+) (?:==|>|<) (\S+)\s*", re.DOTALL)
CASES = yaml.safe_load((HERE / "alerts.yml").read_text())["tests"]


def promtool(*arguments: str | Path, said: str = "") -> None:
    if shutil.which("promtool") is None:
        pytest.skip("Prometheus is not installed")
    done = subprocess.run(["promtool", *map(str, arguments)], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")


def test_each_alert_fires_when_it_should_and_keeps_silent_when_it_should() -> None:
    promtool("test", "rules", HERE / "alerts.yml")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_each_alert_is_tried_both_ways(alert: str) -> None:
    tries = [case["exp_alerts"] for tests in CASES for case in tests["alert_rule_test"] if case["alertname"] == alert]
    assert {bool(expected) for expected in tries} == {True, False}


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    section = RUNBOOKS.read_text().split("\n## Runbooks\n")[1].split("\n## ")[0]
    written = {title.lower().replace(" ", "-") for title in re.findall("^### (.+)$", section, re.MULTILINE)}
    assert {alert["annotations"]["runbook_url"] for alert in ALERTS} == {f"docs/operating.md#{it}" for it in written}


def test_the_names_of_the_metrics_are_as_prometheus_wants_them(watched: Watched) -> None:
    promtool("check", "metrics", said=httpx.get(f"{watched.proxy.root}/metrics").text)


def test_the_proxy_is_scraped_and_a_vllm_that_is_not_there_is_no_failure(watched: Watched) -> None:
    [target] = watched.prometheus.api("/targets", state="active")["activeTargets"]
    assert (target["labels"]["job"], target["health"], target["lastError"]) == ("understudy", "up", "")


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    groups = watched.prometheus.api("/rules")["groups"]
    evaluated = {rule["name"]: (rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]}
    assert evaluated == {rule.get("record") or rule["alert"]: ("ok", None) for rule in RULES}


@pytest.mark.parametrize("rule", RECORDED, ids=lambda rule: rule["record"])
def test_every_recording_rule_has_a_value(watched: Watched, rule: dict[str, Any]) -> None:
    assert watched.prometheus.values(rule["record"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_looks_at_something(watched: Watched, rule: dict[str, Any]) -> None:
    compared = COMPARED.fullmatch(rule["expr"])
    assert compared, "an alert is `expression comparison number`"
    float(compared[2])
    assert watched.prometheus.values(compared[1])


def test_only_what_is_wrong_here_alarms(watched: Watched) -> None:
    """The traffic has a model without a price; its fallbacks have not lasted for a quarter of an hour."""
    alerts = watched.prometheus.api("/alerts")["alerts"]
    assert {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"} == {
        "UnderstudyUnpricedModels"
    }

"""What a scrape of /metrics may rely on."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.metrics import Metrics
from proxy.money.savings import Parts
from router.decision import Reason
from router.promotion import Promotion, Stage

CONTRACT = {
    "understudy_calls": ("counter", {"endpoint", "served_by", "status"}),
    "understudy_decisions": ("counter", {"reason"}),
    "understudy_call_duration_seconds": ("histogram", {"endpoint", "served_by"}),
    "understudy_overhead_seconds": ("histogram", set()),
    "understudy_first_token_seconds": ("histogram", {"served_by"}),
    "understudy_tokens": ("counter", {"served_by", "direction"}),
    "understudy_cost_usd": ("counter", {"served_by"}),
    "understudy_counterfactual_cost_usd": ("counter", set()),
    "understudy_savings_usd": ("gauge", set()),
    "understudy_savings_part_usd": ("gauge", {"part"}),
    "understudy_copies": ("counter", {"kind", "outcome"}),
    "understudy_unpriced_calls": ("counter", set()),
    "understudy_fallbacks": ("counter", {"reason"}),
    "understudy_cluster_calls": ("counter", {"cluster", "served_by"}),
    "understudy_key_calls": ("counter", {"key", "served_by"}),
    "understudy_key_cost_usd": ("counter", {"key", "served_by"}),
    "understudy_key_counterfactual_cost_usd": ("counter", {"key"}),
    "understudy_risk": ("gauge", set()),
    "understudy_promotion_stage": ("gauge", {"cluster", "stage"}),
    "understudy_promotion_in_doubt": ("gauge", {"cluster"}),
    "understudy_spool_bytes": ("gauge", set()),
    "understudy_spool_oldest_seconds": ("gauge", set()),
    "understudy_calls_lost": ("counter", set()),
    "understudy_calls_quarantined": ("counter", set()),
    "understudy_slm_up": ("gauge", {"slm"}),
    "understudy_cluster_disagreement_ratio": ("gauge", {"cluster"}),
    "understudy_cluster_disagreement_bound": ("gauge", {"cluster"}),
}

PROMOTION = Promotion(cluster_id="c1", model="tiny", stage=Stage.CANARY, share=0.5, slm="slm")


def scrape(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Sample name and labels → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return scrape(text)[name, frozenset(labels.items())]


def busy_metrics() -> Metrics:
    """Metrics in which every series of this stage has a sample."""
    metrics = Metrics(spool_usage=lambda: (1234, 5.5))
    metrics.know_clusters(["c1"])
    metrics.show_promotions({"c1": PROMOTION})
    metrics.show_slm("slm", True)
    metrics.show_savings(Parts())
    metrics.count_key_call("triage", "slm", 0.01, 0.0, 0.02)
    metrics.show_disagreement({"c1": (0.01, 0.03)})
    return metrics


def test_names_types_and_labels_are_the_contract() -> None:
    families = {family.name: family for family in text_string_to_metric_families(busy_metrics().render().decode())}
    for name, (kind, labels) in CONTRACT.items():
        assert families[name].type == kind
        assert {label for sample in families[name].samples for label in sample.labels} - {"le"} == labels, name


def test_what_should_be_visible_before_the_first_call_starts_at_zero() -> None:
    text = Metrics().render()
    assert value(text, "understudy_calls_lost_total") == 0
    assert value(text, "understudy_unpriced_calls_total") == 0
    assert value(text, "understudy_savings_usd") == 0
    for reason in Reason:
        assert value(text, "understudy_decisions_total", reason=reason.value) == 0
    assert value(text, "understudy_tokens_total", served_by="slm", direction="cached_input") == 0


def test_one_call_is_counted_once_everywhere() -> None:
    metrics = busy_metrics()
    metrics.observe_call("chat", "slm", 200, "matched", "c1", 0.4, 0.0004, 0.2)
    text = metrics.render()
    assert value(text, "understudy_calls_total", endpoint="chat", served_by="slm", status="2xx") == 1
    assert value(text, "understudy_decisions_total", reason="matched") == 1
    assert value(text, "understudy_cluster_calls_total", cluster="c1", served_by="slm") == 1
    assert value(text, "understudy_call_duration_seconds_sum", endpoint="chat", served_by="slm") == 0.4
    assert value(text, "understudy_overhead_seconds_count") == 1
    assert value(text, "understudy_first_token_seconds_count", served_by="slm") == 1


def test_an_slm_failure_answered_by_the_llm_is_a_fallback_and_a_decision() -> None:
    metrics = busy_metrics()
    metrics.observe_call("chat", "llm", 200, "slm_timeout", "c1", 31.0, 0.001, 30.5, fell_back=True)
    metrics.observe_call("chat", "llm", 200, "not_promoted", "c1", 1.0, 0.001, 0.5)
    text = metrics.render()
    assert value(text, "understudy_fallbacks_total", reason="slm_timeout") == 1
    assert value(text, "understudy_decisions_total", reason="slm_timeout") == 1
    assert sum(v for (name, _), v in scrape(text).items() if name == "understudy_fallbacks_total") == 1


@pytest.mark.parametrize("reason", ["context_too_long", "unsupported_feature"])
def test_a_reason_of_router_and_slm_is_a_fallback_only_after_an_attempt(reason: str) -> None:
    metrics = busy_metrics()
    metrics.observe_call("chat", "llm", 200, reason, "c1", 1.0, 0.001, 0.5)
    assert value(metrics.render(), "understudy_fallbacks_total", reason=reason) == 0
    metrics.observe_call("chat", "llm", 200, reason, "c1", 1.0, 0.001, 0.5, fell_back=True)
    assert value(metrics.render(), "understudy_fallbacks_total", reason=reason) == 1


def test_a_cluster_that_no_snapshot_has_does_not_become_a_label() -> None:
    metrics = busy_metrics()
    metrics.observe_call("chat", "llm", 200, "not_promoted", "made-up", 1.0, 0.001, None)
    assert value(metrics.render(), "understudy_cluster_calls_total", cluster="other", served_by="llm") == 1
    assert b"made-up" not in metrics.render()


def test_doubt_is_shown_while_it_lasts() -> None:
    metrics = busy_metrics()
    for in_doubt in (True, False):
        metrics.show_promotions({"c1": replace(PROMOTION, in_doubt=in_doubt)})
        assert value(metrics.render(), "understudy_promotion_in_doubt", cluster="c1") == in_doubt
    metrics.show_promotions({"c1": replace(PROMOTION, in_doubt=True)})
    metrics.show_promotions({})
    assert value(metrics.render(), "understudy_promotion_in_doubt", cluster="c1") == 0


def test_a_demotion_takes_the_stage_back_to_zero() -> None:
    metrics = busy_metrics()
    assert value(metrics.render(), "understudy_promotion_stage", cluster="c1", stage="canary") == 1
    metrics.show_promotions({})
    assert value(metrics.render(), "understudy_promotion_stage", cluster="c1", stage="canary") == 0


def test_cached_tokens_are_counted_apart_from_the_rest_of_the_input() -> None:
    metrics = Metrics()
    metrics.add_tokens("llm", input_tokens=100, cached_input_tokens=80, output_tokens=7)
    text = metrics.render()
    assert value(text, "understudy_tokens_total", served_by="llm", direction="input") == 20
    assert value(text, "understudy_tokens_total", served_by="llm", direction="cached_input") == 80
    assert value(text, "understudy_tokens_total", served_by="llm", direction="output") == 7


def test_savings_may_be_negative() -> None:
    metrics = Metrics()
    metrics.show_savings(Parts(counterfactual_usd=1.0, shadow_usd=0.5, audit_usd=2.5))
    text = metrics.render()
    assert value(text, "understudy_savings_usd") == -2.0
    shown = {part: value(text, "understudy_savings_part_usd", part=part) for part in ("counterfactual", "audit", "gpu")}
    assert shown == {"counterfactual": 1.0, "audit": 2.5, "gpu": 0.0}


def test_the_spool_is_measured_when_asked_for() -> None:
    sizes = iter([(10, 1.0), (0, 0.0)])
    metrics = Metrics(spool_usage=lambda: next(sizes))
    assert value(metrics.render(), "understudy_spool_bytes") == 10
    assert value(metrics.render(), "understudy_spool_bytes") == 0


WORKER = """
import sys
from dataclasses import replace
from proxy.metrics import Metrics
from proxy.money.savings import Parts
from router.promotion import Promotion, Stage
metrics = Metrics(spool_usage=lambda: (7, 0.5))
metrics.know_clusters(["c1"])
metrics.show_promotions({"c1": Promotion("c1", "tiny", Stage.LIVE, 1.0, "slm")})
metrics.know_slm("silent")
metrics.know_slm("slm")
if sys.argv[1] == "3":  # the first of them; the second has seen nothing yet
    metrics.show_slm("slm", True)
for _ in range(int(sys.argv[1])):
    metrics.observe_call("chat", "llm", 200, "unknown_task", None, 0.4, 0.0004, 0.2)
metrics.show_savings(Parts(counterfactual_usd=float(sys.argv[2])))
sys.stdout.buffer.write(metrics.render())
"""


def test_totals_are_right_over_several_processes_dead_ones_included(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    text = b""
    for calls, savings in (("3", "2.5"), ("4", "-1.0")):
        text = subprocess.run(
            [sys.executable, "-c", WORKER, calls, savings], env=environment, check=True, capture_output=True
        ).stdout
    assert value(text, "understudy_calls_total", endpoint="chat", served_by="llm", status="2xx") == 7
    assert value(text, "understudy_overhead_seconds_count") == 7
    assert value(text, "understudy_savings_usd") == -1.0
    assert value(text, "understudy_promotion_stage", cluster="c1", stage="live") == 1
    assert value(text, "understudy_slm_up", slm="slm") == 1
    assert value(text, "understudy_slm_up", slm="silent") == 0
    assert value(text, "understudy_spool_bytes") == 7
    families = {family.name: family.type for family in text_string_to_metric_families(text.decode())}
    assert families == {name: kind for name, (kind, _) in CONTRACT.items()}

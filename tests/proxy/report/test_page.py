"""The page: whole in itself, whatever a log says, and from a log of any kind."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proxy.report.page import page, percent, usd
from proxy.report.tasks import LogReport
from tests.proxy.report.conftest import Log, triage

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_VOID = {"meta", "rect", "line", "br"}


class Strict(HTMLParser):
    """Notes every element, and fails where they don't close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def close(self) -> None:
        super().close()
        assert self._open == []


def shown(found: LogReport) -> str:
    html = page(found.report, is_learned=found.is_learned, made_at=NOW, version="1.2.3")
    return html.replace("\u00a0", " ")


def parsed(html: str) -> Strict:
    parser = Strict()
    parser.feed(html)
    parser.close()
    return parser


@pytest.fixture
def found(log: Log) -> LogReport:
    log.add([triage(number) for number in range(80)])
    log.learn()
    return log.report()


def test_says_which_share_is_replaceable_and_what_to_do_next(found: LogReport) -> None:
    html = shown(found)
    assert "At most <strong>100.0 %</strong> of these calls" in html
    assert "(95.5–100.0 %)" in html
    assert f"understudy train {found.report.tasks[0].known.cluster_id}" in html


def test_loads_nothing_and_runs_nothing(found: LogReport) -> None:
    html = shown(found)
    parser = parsed(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(parser.seen)
    assert not {"src", "href", "style", "action"} & {name for name, _ in parser.attributes}
    assert not [name for name, _ in parser.attributes if name.startswith("on")]
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_break_even_is_told_where_costs_are_known_and_left_out_where_they_are_not(log: Log, found: LogReport) -> None:
    assert "Training pays from" not in shown(found).split("How the figures were made")[0]
    assert "UNDERSTUDY_SLM_GPU_USD_PER_HOUR" in shown(found)
    log.settings = log.settings.model_copy(update={"slm_gpu_usd_per_hour": 2.0, "slm_url": {"main": "http://slm/v1"}})
    costly = log.report()
    [task] = costly.report.tasks
    assert task.known.economics is not None
    needed = task.known.economics.break_even_calls_per_month
    assert needed is not None
    html = shown(costly)
    parsed(html)
    assert f"{math.ceil(needed):,} a month" in html


def test_prompts_are_hostile(found: LogReport) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    task = found.report.tasks[0]
    known = replace(task.known, label=hostile, model=hostile, stage="live")
    html = shown(LogReport(replace(found.report, tasks=[replace(task, known=known)]), True))
    parser = parsed(html)
    assert "script" not in parser.seen
    assert "img" not in parser.seen
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html


def test_an_empty_log_and_one_that_was_not_learned_say_so(log: Log) -> None:
    html = shown(log.report())
    parsed(html)
    assert "The log is empty" in html
    log.add([triage(1)])
    html = shown(log.report())
    parsed(html)
    assert "understudy learn" in html


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("litellm_spend_logs.json", "litellm"), ("litellm_payload.jsonl", "litellm"), ("langfuse_api.json", "langfuse"),
        ("langfuse_table.csv", "langfuse"), ("helicone.jsonl", "helicone"), ("openai_batch.jsonl", "openai-chat"),
        ("openai_tuning.jsonl", "openai-chat"), ("otel_new.jsonl", "otel-genai"),
    ],
)  # fmt: skip
def test_a_log_of_another_tool_is_enough(log: Log, name: str, form: str) -> None:
    imported = log.bring_in(Path(__file__).parents[2] / "data" / "imports" / name, form)
    assert imported > 0
    log.learn()
    html = shown(log.report())
    parsed(html)
    assert f"{imported} calls from an import of {form}" in html


@pytest.mark.parametrize(("value", "said"), [(0, "0.0 %"), (0.0001, "< 0.1 %"), (0.0519, "5.2 %"), (1, "100.0 %")])
def test_what_is_there_is_never_shown_as_nothing(value: float, said: str) -> None:
    assert percent(value).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(1234.5, "$1,234.50"), (0.5, "$0.50"), (0.0042, "$0.0042"), (0.00001, "< $0.0001"), (0, "$0.00")],
)
def test_money_is_shown_in_dollars(value: float, said: str) -> None:
    assert usd(value) == said


def test_real_agent_calls_make_a_page(log: Log, shared_data: Path) -> None:
    log.bring_in(shared_data / "responses_api_calls.jsonl.gz")
    log.learn()
    found = log.report()
    parsed(shown(found))
    assert found.report.calls == 150

"""Settings, commands, endpoints, decision reasons and metrics, as the code has them, in Markdown."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from fastapi.routing import APIRoute
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from proxy.app import Front, create_app
from proxy.cli.main import app as commands
from proxy.endpoints import admin
from proxy.metrics import Metrics, SpoolGauges
from proxy.settings import PREFIX, Settings
from router.decision import Reason

PATH = Path(__file__).parent / "reference.md"

_HEAD = """\
# Reference

Written by `python -m docs` out of the code. The public contract stands behind it: names are added, never changed.
"""

_REASONS = {
    Reason.MATCHED: "the task is promoted, and its SLM answered",
    Reason.CANARY_HELD_BACK: "the canary serves a share, and this conversation is not in it",
    Reason.SHADOW_ONLY: "the SLM is in the shadow and serves nobody",
    Reason.NO_SNAPSHOT: "nothing was learned yet",
    Reason.UNKNOWN_TASK: "no task that is known",
    Reason.PAYLOAD_OUT_OF_DISTRIBUTION: "the task is known, but its payload is unlike what the task has seen",
    Reason.NOT_PROMOTED: "the task has no SLM in force",
    Reason.TOOL_LOOP_HELD: "a tool loop that the LLM began",
    Reason.STATEFUL_CALL: "the provider keeps something that the call reads or leaves behind",
    Reason.UNSUPPORTED_FEATURE: "the call asks for what an SLM's answer would not have",
    Reason.CONTEXT_TOO_LONG: "it may not fit into the SLM's context",
    Reason.HEADER_OVERRIDE: "the client asked for it by `x-understudy-route`",
    Reason.KEY_POLICY: "the client's key keeps its calls with the LLM",
    Reason.SLM_UNAVAILABLE: "the SLM server failed so often that it is left alone for now, or does not know the SLM",
    Reason.SLM_TIMEOUT: "the SLM took longer than it may",
    Reason.SLM_ERROR: "the SLM server could not be reached, broke off, or answered with an error",
    Reason.OUTPUT_INVALID: "the SLM's answer breaks the task's output contract",
    Reason.LOW_CONFIDENCE: "the SLM was less sure than its certificate asks",
    Reason.ROUTER_ERROR: "a fault of the router's own; its log says which",
}

_HOW_TO_SET = """Environment variables, or a TOML file named by `UNDERSTUDY_CONFIG` (names in lower case, without the
prefix); the environment wins; an unknown name or a malformed value is an error. An LLM whose certificate comes from
your own authority is trusted where `SSL_CERT_FILE` names that authority's certificate.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join(
        [
            _HEAD,
            _section("Commands", ("command", "does"), _commands()),
            _section("Settings", ("name", "default", "meaning"), _settings(), _HOW_TO_SET),
            _section("Admin API", ("call", "role", "does"), _endpoints()),
            _section("Decision reasons", ("reason", "why the call went where it went"), _reasons()),
            _section("Metrics", ("name", "type", "labels", "meaning"), _metrics()),
        ]
    )


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *before: str) -> str:
    lines = [f"## {title}", "", *before, _row(columns), _row(["---"] * len(columns)), *map(_row, rows), ""]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _commands() -> Iterator[tuple[str, str]]:
    def walk(command: Any, name: str) -> Iterator[tuple[str, str]]:
        if hasattr(command, "commands"):
            for part, below in command.commands.items():
                yield from walk(below, f"{name} {part}")
        else:
            said, _, example = (command.help or "").split("\n\n")[0].partition("Example: ")
            yield f"`{name}`", said + (f"`{' '.join(example.split())}`" if example else "")

    yield from sorted(walk(typer.main.get_command(commands), "understudy"))


def _settings() -> Iterator[tuple[str, str, str]]:
    defaults = Settings()
    for name, field in Settings.model_fields.items():
        default = getattr(defaults, name)
        yield f"`{PREFIX}{name.upper()}`", "unset" if default in (None, {}) else f"`{default}`", field.description or ""


def _endpoints() -> Iterator[tuple[str, str, str]]:
    """What is in the OpenAPI document, in its order; roles from the endpoints' own signatures."""
    roles: dict[str, str] = {}
    for noun in admin.NOUNS:
        for route in noun.router.routes:
            assert isinstance(route, APIRoute)
            caller = inspect.signature(route.endpoint).parameters["caller"].annotation
            roles |= {f"{method} {admin.router.prefix}{route.path}": str(caller).lower() for method in route.methods}
    with tempfile.TemporaryDirectory() as directory:
        front = create_app(Settings(data_dir=Path(directory)))
        assert isinstance(front, Front)
        document = front._app.openapi()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            call = f"{method.upper()} {path}"
            yield f"`{call}`", roles[call], described.get("description", "").split("\n\n")[0]


def _reasons() -> Iterator[tuple[str, str]]:
    for reason in Reason:
        yield f"`{reason.value}`", _REASONS[reason]


def _metrics() -> Iterator[tuple[str, str, str, str]]:
    metrics = Metrics()
    known = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    labels = {metric._name: metric._labelnames for metric in known}  # families tell only the labels that were used
    for family in sorted([*metrics.registry.collect(), *SpoolGauges(lambda: (0, 0.0)).collect()], key=_name):
        suffix = "_total" if family.type == "counter" else ""
        named = ", ".join(f"`{label}`" for label in labels.get(family.name, ()))
        yield f"`{family.name}{suffix}`", family.type, named, family.documentation


def _name(family: Metric) -> str:
    name: str = family.name
    return name

"""Commands, settings, addresses, headers, errors, decision reasons and metrics, as the code has them, in Markdown."""

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
from proxy.errors import (
    ClientError,
    DataDirUnusable,
    PortUnusable,
    SettingsInvalid,
    UnderstudyError,
    UpstreamError,
)
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
    Reason.IN_DOUBT: "of late its SLM disagreed, or the LLM changed: the LLM answers until agreements outweigh that",
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

_PATHS = {
    "/v1/*": "the LLM's API, whatever it has; `POST /v1/chat/completions` and `POST /v1/responses` may go to an SLM",
    "GET /healthz": "the process lives",
    "GET /readyz": "it serves; a dead database or SLM server is told in its JSON and never makes it fail",
    "GET /metrics": "for Prometheus, all workers together",
    "GET /": "the console",
    "/admin/v1/*": "the admin API, below; as OpenAPI at `/admin/openapi.json`",
}

_REQUEST_HEADERS = {
    "x-understudy-route": "`auto`, `llm` or `slm`, for this call; `slm` takes the admin token or a key that allows it",
    "x-understudy-log": "`full`, `redacted`, `metadata` or `off`: lowers what is kept of this call, never raises it",
    "x-understudy-agent": "a tag: who calls; `GET /admin/v1/savings?by=agent` adds up by it",
    "x-understudy-session": "a tag: the conversation",
    "x-understudy-call-site": "a tag: where in the agent's code",
    "x-understudy-key": "a key of the proxy's own, beside the LLM's in `Authorization`",
}

_RESPONSE_HEADERS = {
    "x-understudy-call-id": "the call in the log",
    "x-understudy-served-by": "`llm` or `slm`",
    "x-understudy-model": "what really answered",
    "x-understudy-cluster": "the task; absent where there is none",
    "x-understudy-reason": "why it went where it went, below",
}

_ABOUT_ERRORS = """What the LLM answers passes through as it is, errors included. The proxy's own have OpenAI's shape,
`{"error": {"message", "type", "param", "code"}}`. The admin API also says `invalid_json` and `invalid_request` (400),
with the field in `param`.
"""

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
            _section("Addresses", ("address", "is"), _named(_PATHS)),
            _section("Headers of a call", ("header", "says"), _named(_REQUEST_HEADERS)),
            _section("Headers of an answer", ("header", "says"), _named(_RESPONSE_HEADERS)),
            _section("Errors", ("code", "status", "type", "means"), _errors(), _ABOUT_ERRORS),
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


def _named(known: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, meaning in known.items():
        yield f"`{name}`", meaning


def _errors() -> Iterator[tuple[str, str, str, str]]:
    """Those that answer a request, in the order of their classes; each code once."""

    def walk(error: type[UnderstudyError]) -> Iterator[type[UnderstudyError]]:
        for below in error.__subclasses__():
            yield below
            yield from walk(below)

    told: dict[str, tuple[str, str, str, str]] = {}
    for error in walk(UnderstudyError):
        if error.__module__ == UnderstudyError.__module__ and error not in (
            SettingsInvalid, DataDirUnusable, PortUnusable, ClientError, UpstreamError,
        ):  # fmt: skip
            meaning = inspect.cleandoc(error.__doc__ or "")
            told.setdefault(error.code, (f"`{error.code}`", str(error.status), f"`{error.type}`", meaning))
    yield from told.values()


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

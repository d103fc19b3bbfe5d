"""One task: what it is recognised by, what it looks like, what is proved of its SLMs, and their lives."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response

from proxy.console.charts import proofs
from proxy.console.figures import share
from proxy.console.page import SignedIn, page_router
from proxy.console.render import render
from proxy.console.transcript import read_request, read_response, said
from proxy.endpoints import clusters, savings
from proxy.endpoints.access import InState
from proxy.endpoints.schemas import ClusterDetails
from proxy.runs.wanting import can_train
from proxy.state import State
from router.certificate import Certificate, CertificateInvalid
from router.progress import Autopilot
from router.segments import segments
from storage.cipher import Undecipherable
from storage.errors import NotFound
from storage.ids import format_call_id, parse_call_id
from storage.models import WatchRow
from storage.repositories.calls import get_call
from storage.repositories.certificates import list_certificates
from storage.repositories.watches import get_watch

router = page_router()

EXAMPLES = 3
MAX_EXAMPLE_CHARS = 1_500
MAX_MOVES = 50
_MASK = re.compile(r"(?<!#)(?!^# )(#)(?!#)")
#: What the address may ask the page to say; nothing else is ever repeated from it.
_DONE = {
    "promoted": "Done. All workers serve by it within five seconds.",
    "demoted": "Done. The LLM answers every call of this task again, on all workers within five seconds.",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A call of the task; `payload` is what its template doesn't say."""

    call_id: str
    payload: str
    answer: str


@router.get("/tasks/{cluster_id}")
def show(request: Request, state: InState, session: SignedIn, cluster_id: str, done: str = "") -> Response:
    """Everything about a task."""
    task = clusters.get_cluster(cluster_id, state, session.caller)
    sums = savings.get_savings(state, session.caller, "cluster", None, None).data
    model = task.promotion.model if task.promotion else task.certificate.model if task.certificate else None
    watch = _watch(state, task)
    seen = watch.failures / watch.conversations if watch else None
    return render(
        request,
        "task",
        task=task,
        done=_DONE.get(done, ""),
        sums=next((row for row in sums if row.key == cluster_id), None),
        form=_form(task.contract),
        skeleton=[_slots(line) for line in task.skeleton.splitlines()],
        examples=_examples(state, task),
        model=model,
        watch=watch,
        chart=proofs(_certificates(state, cluster_id, model), state.settings.risk, datetime.now(UTC), seen),
        risk=state.settings.risk,
        confidence=state.settings.confidence,
        may_train=can_train(state.settings),
        promotes_itself=state.settings.autopilot is Autopilot.ON,
        moves=[(move, _grounds(move.figures)) for move in task.moves[:MAX_MOVES]],
        moves_in_all=len(task.moves),
    )


def _grounds(figures: dict[str, Any]) -> str:
    """What a move rests on: a certificate's bound, or where an audit left the disagreement. Else its reason says it."""
    match figures:
        case {"n": int(n), "failures": int(failures), "disagreement_bound": float(bound)}:
            return f"{failures:,} of {n:,} otherwise, bound {share(bound)}"
        case {"low": float(low), "high": float(high), "alpha": float(alpha)}:
            return f"disagreement between {share(low)} and {share(high)}, the risk is {share(alpha)}"
        case {"teacher": str(teacher)}:
            return teacher
    return ""


def _slots(line: str) -> list[tuple[str, bool]]:
    """A template's line in pieces, each with whether it is a masked number or id, and not Markdown's heading."""
    pieces = _MASK.split(line)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]


def _form(contract: dict[str, Any]) -> list[tuple[str, str]]:
    """A contract in words: what it says, and of what."""
    schema = contract.get("schema")
    bounds = f"{contract.get('min_chars', 0):,} to {contract.get('max_chars') or 0:,} characters"
    lines = [
        (
            "Form",
            {"tool_call": "tool call", "json": "JSON", "label": "one of some labels"}.get(contract["kind"], "text"),
        ),
        ("Labels", ", ".join(contract.get("labels") or ())),
        ("Length", bounds if contract["kind"] == "text" and contract.get("max_chars") else ""),
        ("Writing", ", ".join(contract.get("languages") or ())),
        (
            "Tools",
            ", ".join(contract.get("tools") or ())
            + (", and others that a call offers" if contract.get("open_tools") else ""),
        ),
        ("Schema", orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode() if schema else ""),
        ("Seen in", f"{contract.get('support', 0):,} answers"),
    ]
    return [(name, text) for name, text in lines if text]


def _examples(state: State, task: ClusterDetails) -> list[Example]:
    template = set(task.skeleton.splitlines())
    found = []
    for text in task.examples[:EXAMPLES]:
        with suppress(NotFound, Undecipherable, ValueError), state.database.read() as session:
            call_id = parse_call_id(str(text))
            call = get_call(session, state.cipher, call_id)
            answer = read_response(
                call.row.endpoint,
                call.response_body,
                call.row.response_content_type,
                call.row.response_content_encoding,
            )
            payload = _payload(said(read_request(call.request_body)), template)
            found.append(Example(format_call_id(call_id), _end(payload), said(answer)[:MAX_EXAMPLE_CHARS]))
    return found


def _end(text: str) -> str:
    """What comes last in a request says most about it."""
    return text if len(text) <= MAX_EXAMPLE_CHARS else "…" + text[-MAX_EXAMPLE_CHARS:]


def _payload(text: str, template: set[str]) -> str:
    """The lines of a request that its task's template doesn't have; an ellipsis where some are left out."""
    kept: list[str] = []
    for line in text.splitlines():
        own = segments(line)
        if own and not all(segment in template for segment in own):
            kept.append(line)
        elif own and kept and kept[-1] != "…":
            kept.append("…")
    return "\n".join(kept).removesuffix("\n…")


def _watch(state: State, task: ClusterDetails) -> WatchRow | None:
    """What copies of real calls have shown since the promotion; None before the first of them was judged."""
    if task.promotion is None:
        return None
    with state.database.read() as session:
        watch = get_watch(session, task.promotion.version)
    return watch if watch and watch.conversations else None


def _certificates(state: State, cluster_id: str, model: str | None) -> list[Certificate]:
    with state.database.read() as session:
        rows = [row for row in list_certificates(session, cluster_id) if row.model == model]
    found = []
    for row in rows:
        with suppress(CertificateInvalid):
            found.append(Certificate.from_json(row.content))
    return found

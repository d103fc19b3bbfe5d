"""The admin API: tasks, promotions, models, the log, savings, the audit trail."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from proxy.auth import Caller, Role, require
from proxy.errors import BadRequest, NoSuchThing, ServiceUnavailable, UnderstudyError, error_body
from proxy.promotions import Wish, demote_cluster, missing_proof, promote_cluster
from proxy.state import State
from proxy.vllm import VllmServer
from router.promotion import Promotion, Stage
from storage.errors import DatabaseDown, NotFound
from storage.ids import format_call_id, parse_call_id
from storage.models import Call, ClusterRow, ModelRow, PromotionRow
from storage.repositories import calls as call_rows
from storage.repositories import clusters as cluster_rows
from storage.repositories import promotions as promotion_rows
from storage.repositories import registry

router = APIRouter(prefix="/admin/v1", tags=["admin"])

Viewer = Annotated[Caller, Depends(require(Role.VIEWER))]
Operator = Annotated[Caller, Depends(require(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]


class PromotionWish(BaseModel):
    """Body of a promotion."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1)
    stage: Literal["shadow", "canary", "live"]
    share: float | None = Field(None, ge=0, le=1, description="of the calls that a canary serves")
    slm: str | None = Field(None, description="server name in UNDERSTUDY_SLM_URL")
    adapter: str | None = Field(None, description="LoRA adapter's path, as the SLM server sees it")
    force: bool = Field(False, description="without a certificate; needs a reason and the admin role")
    reason: str | None = None


class ModelEntry(BaseModel):
    """Body of a model's registration."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    slm: str
    adapter: str | None = None
    base: str | None = None
    max_context_tokens: int | None = Field(None, gt=0)


def _state(request: Request) -> State:
    state: State = request.app.state.understudy
    return state


@router.get("/clusters")
def list_clusters(request: Request, caller: Viewer) -> dict[str, Any]:
    """The tasks of the snapshot in force, largest first."""
    state = _state(request)
    with state.database.read() as session:
        rows = cluster_rows.list_clusters(session)
        sums = {total.key: total for total in call_rows.totals(session)}
    whole = _Whole(sums.values())
    return {"data": [_cluster(row, sums.get(row.cluster_id), whole, state) for row in rows]}


@router.get("/clusters/{cluster_id}")
def get_cluster(request: Request, cluster_id: str, caller: Viewer) -> dict[str, Any]:
    """One task, with its skeleton, examples and promotions."""
    state = _state(request)
    with state.database.read() as session:
        row = cluster_rows.get_cluster(session, cluster_id)
        sums = {total.key: total for total in call_rows.totals(session)}
        history = promotion_rows.history(session, cluster_id)
    shown = _cluster(row, sums.get(cluster_id), _Whole(sums.values()), state)
    shown |= {"skeleton": row.skeleton, "examples": row.examples, "promotions": [_promotion_row(p) for p in history]}
    shown["certificate"] = None
    shown["missing_proof"] = missing_proof(state.settings)
    return shown


@router.post("/clusters/{cluster_id}/promotions", status_code=201)
def promote(request: Request, cluster_id: str, wish: PromotionWish, caller: Operator) -> dict[str, Any]:
    """Promote an SLM for a task; in force on all workers within 5 s."""
    state = _state(request)
    if wish.force and caller.role < Role.ADMIN:
        require(Role.ADMIN)(request)
    values = wish.model_dump() | {"stage": Stage(wish.stage)}
    made = promote_cluster(state.database, state.settings, cluster_id, Wish(**values), caller.name)
    state.serving.refresh()
    return _promotion(made)


@router.delete("/clusters/{cluster_id}/promotions/current")
def demote(request: Request, cluster_id: str, caller: Operator) -> dict[str, Any]:
    """Give a task back to the LLM at once."""
    state = _state(request)
    ended = demote_cluster(state.database, cluster_id, caller.name)
    state.serving.refresh()
    return _promotion(ended) | {"stage": Stage.RETIRED.value}


@router.get("/models")
def list_models(request: Request, caller: Viewer) -> dict[str, Any]:
    """Registered SLMs, and what each SLM server says that it has."""
    state = _state(request)
    with state.database.read() as session:
        registered = [_model(row) for row in registry.list_models(session)]
    servers = {}
    for name, url in state.settings.slm_url.items():
        try:
            found = VllmServer(name, url, state.settings.slm_api_key).models()
            servers[name] = {"up": True, "models": [asdict(model) for model in found]}
        except UnderstudyError as error:
            servers[name] = {"up": False, "error": str(error)}
    return {"data": registered, "servers": servers}


@router.post("/models", status_code=201)
def register_model(request: Request, entry: ModelEntry, caller: Operator) -> dict[str, Any]:
    """Register an SLM or adapter that was trained elsewhere."""
    state = _state(request)
    if entry.slm not in state.settings.slm_url:
        known = ", ".join(state.settings.slm_url) or "none"
        raise NoSuchThing(f"there is no SLM server {entry.slm!r}; UNDERSTUDY_SLM_URL names {known}")
    with state.database.write() as session:
        row = ModelRow(**entry.model_dump(), created_at=datetime.now(UTC))
        registry.register_model(session, row)
        registry.audit(session, caller.name, "model.registered", entry.name, slm=entry.slm, adapter=entry.adapter)
    return entry.model_dump()


@router.get("/calls")
def list_calls(
    request: Request,
    caller: Viewer,
    cluster: str | None = None,
    served_by: Literal["llm", "slm"] | None = None,
    reason: str | None = None,
    agent: str | None = None,
    before: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """The log, newest first; `next` is the `before` of the following page."""
    state = _state(request)
    with state.database.read() as session:
        found = call_rows.find_calls(
            session,
            cluster_id=cluster,
            served_by=served_by,
            reason=reason,
            agent=agent,
            before=_call_id(before) if before else None,
            limit=limit,
        )
        total = call_rows.count_calls(session)
    shown = [_call(row) for row in found]
    return {"data": shown, "total": total, "next": shown[-1]["call_id"] if len(shown) == limit else None}


@router.get("/calls/{call_id}")
def get_call(request: Request, call_id: str, caller: Viewer) -> dict[str, Any]:
    """One call with its request and answer as they came."""
    state = _state(request)
    with state.database.read() as session:
        stored = call_rows.get_call(session, state.cipher, _call_id(call_id))
        return _call(stored.row) | {
            "request_body": _body(stored.request_body),
            "response_body": _body(stored.response_body),
        }


@router.delete("/calls")
def delete_calls(request: Request, caller: Admin, origin: Annotated[str, Query(min_length=32)]) -> dict[str, Any]:
    """Delete all calls of one origin (its hash, as the log shows it)."""
    try:
        hashed = bytes.fromhex(origin)
    except ValueError as error:
        raise BadRequest("origin is the 32 hexadecimal digits that the log shows") from error
    with _state(request).database.write() as session:
        deleted = call_rows.delete_by_origin(session, hashed)
        registry.audit(session, caller.name, "calls.deleted", origin, deleted=deleted)
    return {"deleted": deleted}


@router.get("/savings")
def savings(
    request: Request,
    caller: Viewer,
    by: Literal["cluster", "model", "agent", "day"] = "cluster",
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
) -> dict[str, Any]:
    """Money, calls and tokens; net, and negative where the SLMs cost more than they saved."""
    with _state(request).database.read() as session:
        found = call_rows.totals(session, by, since, until)
    rows = [asdict(total) | {"savings_usd": total.counterfactual_usd - total.slm_cost_usd} for total in found]
    summed = ("calls", "slm_calls", "input_tokens", "output_tokens", "cost_usd", "counterfactual_usd", "savings_usd")
    return {
        "by": by,
        "data": rows,
        "total": {name: sum(row[name] for row in rows) for name in summed},
        "unpriced_calls": sum(total.unpriced for total in found),
        "left_out": "GPU hours, training, shadow and audit copies are not in the cost yet",
    }


@router.get("/audit")
def list_audit(request: Request, caller: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """Who did what, newest first."""
    with _state(request).database.read() as session:
        rows = registry.list_audit(session, limit)
    return {
        "data": [
            {"at": row.at, "actor": row.actor, "action": row.action, "subject": row.subject, "details": row.details}
            for row in rows
        ]
    }


class _Whole:
    """Sums over the log, for shares."""

    def __init__(self, sums: Any) -> None:
        found = list(sums)
        self.calls = sum(total.calls for total in found)
        self.tokens = sum(total.input_tokens + total.output_tokens for total in found)
        self.cost = sum(total.cost_usd for total in found)


def _cluster(row: ClusterRow, total: call_rows.Totals | None, whole: _Whole, state: State) -> dict[str, Any]:
    current = state.serving.promotions.get(row.cluster_id)
    tokens = total.input_tokens + total.output_tokens if total else 0
    return {
        "id": row.cluster_id,
        "label": row.label,
        "contract": row.contract,
        "calls": total.calls if total else 0,
        "slm_calls": total.slm_calls if total else 0,
        "tokens": tokens,
        "cost_usd": total.cost_usd if total else 0.0,
        "share": {
            "calls": _share(total.calls if total else 0, whole.calls),
            "tokens": _share(tokens, whole.tokens),
            "cost": _share(total.cost_usd if total else 0.0, whole.cost),
        },
        "stage": current.stage.value if current else None,
        "promotion": _promotion(current) if current else None,
        "candidates": [],
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _promotion(promotion: Promotion) -> dict[str, Any]:
    return asdict(promotion) | {"stage": promotion.stage.value}


def _promotion_row(row: PromotionRow) -> dict[str, Any]:
    names = ("model", "stage", "share", "slm", "adapter", "forced", "reason", "actor", "created_at", "ended_at")
    return {name: getattr(row, name) for name in names} | {"ended_by": row.ended_by}


def _model(row: ModelRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("name", "slm", "adapter", "base", "max_context_tokens", "created_at")}


_CALL_FIELDS = [
    column.name
    for column in Call.__table__.columns
    if column.name not in {"call_id", "origin", "request_body", "response_body"}
]


def _call(row: Call) -> dict[str, Any]:
    return {
        "call_id": format_call_id(row.call_id),
        **{name: getattr(row, name) for name in _CALL_FIELDS},
        "origin": row.origin.hex(),
        "complete": row.ended == "finished",
    }


def _body(body: bytes | None) -> Any:
    """A body as JSON where it is JSON, as text where it is text, else in hexadecimal digits."""
    if body is None:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return {"hex": body.hex()}


def _call_id(text: str) -> bytes:
    try:
        return parse_call_id(text)
    except ValueError as error:
        raise BadRequest(f"{text!r} is no call id") from error


def shape_errors(app: FastAPI) -> None:
    """Give every error outside the relay OpenAI's shape."""

    @app.exception_handler(UnderstudyError)
    def _own(request: Request, error: UnderstudyError) -> Response:
        return Response(error.body(), error.status, media_type="application/json")

    @app.exception_handler(DatabaseDown)
    def _database(request: Request, error: DatabaseDown) -> Response:
        shown = ServiceUnavailable(f"{error}; calls are served and logged all the same")
        return Response(shown.body(), shown.status, media_type="application/json")

    @app.exception_handler(NotFound)
    def _not_found(request: Request, error: NotFound) -> Response:
        return Response(NoSuchThing(str(error)).body(), 404, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        body = error_body(f"{where}: {first['msg']}", "invalid_request_error", "invalid_request", where)
        return Response(body, 400, media_type="application/json")

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        body = error_body(str(error.detail), "invalid_request_error", f"http_{error.status_code}")
        return Response(body, error.status_code, media_type="application/json")

"""SLMs and adapters: those that were registered, and what the servers have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime

from fastapi import APIRouter

from proxy.endpoints.access import InState, Operator, Viewer
from proxy.endpoints.schemas import ModelEntry, Models, ServerShown
from proxy.errors import NoSuchThing, UnderstudyError
from proxy.slm.vllm import VllmServer
from storage.models import ModelRow
from storage.repositories import registry

router = APIRouter()


@router.get("/models")
def list_models(state: InState, caller: Viewer) -> Models:
    """Registered SLMs, and what each SLM server says that it has."""
    with state.database.read() as session:
        registered = registry.list_models(session)
    servers = [VllmServer(name, url, state.settings.slm_api_key) for name, url in state.settings.slm_url.items()]
    with ThreadPoolExecutor(max_workers=len(servers) or 1) as pool:
        shown = dict(zip((server.name for server in servers), pool.map(_ask, servers), strict=True))
    return Models(data=[ModelEntry.model_validate(row, from_attributes=True) for row in registered], servers=shown)


@router.post("/models", status_code=201)
def register_model(entry: ModelEntry, state: InState, caller: Operator) -> ModelEntry:
    """Register an SLM or adapter that was trained elsewhere; replaces what was known under its name."""
    if entry.slm not in state.settings.slm_url:
        known = ", ".join(state.settings.slm_url) or "none"
        raise NoSuchThing(f"there is no SLM server {entry.slm!r}; UNDERSTUDY_SLM_URL names {known}")
    with state.database.write() as session:
        registry.register_model(session, ModelRow(**entry.model_dump(), created_at=datetime.now(UTC)))
        registry.audit(session, caller.name, "model.registered", entry.name, slm=entry.slm, adapter=entry.adapter)
    return entry


def _ask(server: VllmServer) -> ServerShown:
    try:
        return ServerShown(up=True, models=[asdict(model) for model in server.models()])
    except UnderstudyError as error:
        return ServerShown(up=False, error=str(error))

"""Who did what, when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from proxy.endpoints.access import InState, Viewer
from proxy.endpoints.schemas import AuditEntry, ListOf
from storage.repositories.registry import list_audit

router = APIRouter()


@router.get("/audit")
def get_audit(state: InState, caller: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> ListOf[AuditEntry]:
    """The audit trail, newest first."""
    with state.database.read() as session:
        return ListOf(data=[AuditEntry.model_validate(row) for row in list_audit(session, limit)])

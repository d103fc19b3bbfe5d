"""Registered SLMs, and the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.database import ReadSession, WriteSession
from storage.models import AuditRow, ModelRow


def list_models(session: ReadSession) -> list[ModelRow]:
    """All registered SLMs."""
    return list(session.scalars(select(ModelRow).order_by(ModelRow.name)))


def get_model(session: ReadSession, name: str) -> ModelRow | None:
    """A registered SLM, or None."""
    return session.get(ModelRow, name)


def register_model(session: WriteSession, row: ModelRow) -> None:
    """Add an SLM, or replace what is known of it."""
    session.merge(row)


def audit(session: WriteSession, actor: str, action: str, subject: str, **details: Any) -> None:
    """Write down who did what."""
    session.add(AuditRow(at=datetime.now(UTC), actor=actor, action=action, subject=subject, details=details))


def list_audit(session: ReadSession, limit: int = 100) -> list[AuditRow]:
    """Newest first."""
    return list(session.scalars(select(AuditRow).order_by(AuditRow.audit_id.desc()).limit(limit)))

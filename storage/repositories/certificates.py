"""Certificates: each that was ever drawn up stays as it is; the newest of an SLM on a cluster counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from storage.database import ReadSession, WriteSession
from storage.models import CertificateRow


def add_certificate(
    session: WriteSession, cluster_id: str, model: str, issued_at: datetime, content: dict[str, Any]
) -> CertificateRow:
    """Keep a certificate; from now on it is the newest."""
    row = CertificateRow(cluster_id=cluster_id, model=model, issued_at=issued_at, content=content)
    session.add(row)
    session.flush()
    return row


def newest_certificate(session: ReadSession, cluster_id: str, model: str) -> CertificateRow | None:
    """The one that counts, or None."""
    query = select(CertificateRow).where(CertificateRow.cluster_id == cluster_id, CertificateRow.model == model)
    return session.scalar(query.order_by(CertificateRow.certificate_id.desc()).limit(1))


def list_certificates(session: ReadSession, cluster_id: str | None = None) -> list[CertificateRow]:
    """All of a cluster, or of all clusters; newest first."""
    query = select(CertificateRow).order_by(CertificateRow.certificate_id.desc())
    return list(session.scalars(query if cluster_id is None else query.where(CertificateRow.cluster_id == cluster_id)))

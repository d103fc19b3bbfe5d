"""Certificates: each that was ever drawn up stays as it is; the newest of an SLM on a cluster counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, select

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


def get_certificate(session: ReadSession, certificate_id: int) -> CertificateRow | None:
    """One, by its number."""
    return session.get(CertificateRow, certificate_id)


def newest_certificate(session: ReadSession, cluster_id: str, model: str) -> CertificateRow | None:
    """The one that counts, or None."""
    query = select(CertificateRow).where(CertificateRow.cluster_id == cluster_id, CertificateRow.model == model)
    return session.scalar(query.order_by(CertificateRow.certificate_id.desc()).limit(1))


def newest_certificates(session: ReadSession) -> list[CertificateRow]:
    """Those that count, one for each SLM on each cluster; newest first."""
    newest = select(func.max(CertificateRow.certificate_id)).group_by(CertificateRow.cluster_id, CertificateRow.model)
    query = select(CertificateRow).where(CertificateRow.certificate_id.in_(newest))
    return list(session.scalars(query.order_by(CertificateRow.certificate_id.desc())))


def list_certificates(session: ReadSession, cluster_id: str) -> list[CertificateRow]:
    """All of a cluster, newest first."""
    query = select(CertificateRow).where(CertificateRow.cluster_id == cluster_id)
    return list(session.scalars(query.order_by(CertificateRow.certificate_id.desc())))

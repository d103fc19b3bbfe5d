"""`understudy db upgrade` and `purge`."""

from __future__ import annotations

from proxy.cli.terminal import console, open_log, progress
from proxy.settings import load_settings


def upgrade() -> None:
    """Bring the database's schema up to date. Example: understudy db upgrade"""
    open_log(load_settings())
    console.print("the database is up to date")


def purge() -> None:
    """Delete calls older than UNDERSTUDY_RETENTION_DAYS, and samples of such. Example: understudy purge"""
    from proxy.learning.forgetting import forget_samples
    from proxy.shipping import purge_once
    from storage.artifacts import ArtifactStore

    settings = load_settings()
    database, cipher = open_log(settings)
    with progress("deleting"):
        while purge_once(database, settings.retention_days):
            pass
        forget_samples(ArtifactStore(settings.artifacts_dir, cipher), database)
    console.print(f"calls older than {settings.retention_days} days are deleted")

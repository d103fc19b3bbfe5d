"""`understudy db upgrade` and `purge`."""

from __future__ import annotations

from proxy.cli.terminal import console, open_log, progress
from proxy.settings import load_settings


def upgrade() -> None:
    """Bring the database's schema up to date. Example: understudy db upgrade"""
    open_log(load_settings())
    console.print("the database is up to date")


def purge() -> None:
    """Delete calls older than UNDERSTUDY_RETENTION_DAYS. Example: understudy purge"""
    from proxy.shipping import purge_once

    settings = load_settings()
    database, _ = open_log(settings)
    with progress("deleting"):
        while purge_once(database, settings.retention_days):
            pass
    console.print(f"calls older than {settings.retention_days} days are deleted")

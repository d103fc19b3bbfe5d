"""Alembic's steps from an empty database to `models.py`, one file each under `versions/`, named after its number."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

HERE = Path(__file__).parent


class SchemaUnknown(Exception):
    """The database's schema is none of these steps; a newer version of Understudy made it."""


@cache
def newest_version() -> str:
    """The number of the last step."""
    return max(file.name[:4] for file in (HERE / "versions").glob("[0-9]*.py"))


def version_of(connection: Connection) -> str | None:
    """The number of the step that a database has come to; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version

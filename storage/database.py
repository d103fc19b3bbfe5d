"""Engines and sessions. Reading and writing sessions are different types, so that a query says what it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.errors import DatabaseDown

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 5.0
_ALEMBIC = threading.Lock()  # its context is a global of its module


class ReadSession(Session):
    """Only reads."""


class WriteSession(ReadSession):
    """Reads and writes; commits at the end of its block."""


class Database:
    """One database, by its SQLAlchemy URL. Nothing is opened before the first use."""

    def __init__(self, url: str) -> None:
        self.url = f"postgresql+psycopg{url.removeprefix('postgresql')}" if url.startswith("postgresql://") else url
        self.is_sqlite = self.url.startswith("sqlite")
        self._engine = self._make_engine()

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(self.url, pool_pre_ping=True, connect_args={"connect_timeout": int(BUSY_SECONDS)})
        # No pool: a connection to a file that was deleted would go on writing into nowhere.
        engine = create_engine(self.url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        return engine

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A session that only reads.

        Raises:
            DatabaseDown: the database did not answer.
        """
        with _mapped(), ReadSession(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """A session that commits at the end of the block, or leaves everything as it was.

        Raises:
            DatabaseDown: the database did not take it (down, locked, read-only, full).
        """
        with _mapped(), WriteSession(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def ping(self) -> None:
        """See whether it answers.

        Raises:
            DatabaseDown: it doesn't.
        """
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def upgrade(self) -> None:
        """Bring the schema up to date; makes it where there is none.

        Raises:
            DatabaseDown: it could not be done.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with _ALEMBIC, _mapped(), self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(7318349394477056)"))  # one upgrade at a time
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


@contextmanager
def _mapped() -> Iterator[None]:
    """Map what the driver raises to what callers handle; programming errors pass."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseDown(f"the database did not answer: {error.orig}") from error
    except SQLAlchemyError as error:
        raise DatabaseDown(f"the database can't be used: {error}") from error

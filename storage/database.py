"""Engines and sessions. Reading and writing sessions are different types, so that a query says what it needs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.cipher import Cipher, Undecipherable
from storage.errors import DatabaseDown, RowRefused
from storage.migrations import SchemaUnknown, newest_version, version_of
from storage.privacy import FILE_MODE, create_private

BUSY_SECONDS = 5.0
_WRITES = "understudy_writes"
_ALONE = 7318349394477058


class ReadSession(Session):
    """Only reads."""


class WriteSession(ReadSession):
    """Reads and writes; commits at the end of its block."""


class Database:
    """One database, by its SQLAlchemy URL. Nothing is opened before the first use."""

    def __init__(self, url: str) -> None:
        self.url = _with_driver(url)
        self.is_sqlite = self.url.startswith("sqlite")
        self._engine = self._make_engine()
        self._writing_engine = self._engine.execution_options(**{_WRITES: True})

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            arguments = {"connect_timeout": int(BUSY_SECONDS), "options": "-c timezone=UTC"}  # days are UTC's
            return create_engine(self.url, pool_pre_ping=True, connect_args=arguments)
        # No pool: a connection to a file that was deleted would go on writing into nowhere.
        engine = create_engine(self.url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "do_connect")
        def _create(_: Any, __: Any, arguments: Sequence[str], ___: Any) -> None:
            if arguments[0] != ":memory:":
                with suppress(OSError):  # the driver says what is wrong
                    create_private(Path(arguments[0]))

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver guesses
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")  # segments are deleted after the commit: it must last
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # A transaction that reads first and writes then can't be made to wait for another: it would just fail.
            if connection.get_execution_options().get(_WRITES):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

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
            RowRefused: it never will.
        """
        with _mapped(), WriteSession(self._writing_engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else is in such a block of this database: in no thread, process or machine.

        Whoever dies in there lets go. Nobody who only reads or writes has to wait.

        Raises:
            DatabaseDown: the database did not answer.
        """
        if self.is_sqlite:
            path = make_url(self.url).database
            try:
                descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, FILE_MODE)
            except OSError as error:
                raise DatabaseDown(f"{path}.lock can't be opened: {error.strerror or error}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
            return
        with _mapped(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"SELECT pg_advisory_lock({_ALONE})"))
            try:
                yield
            finally:
                connection.execute(text(f"SELECT pg_advisory_unlock({_ALONE})"))

    def ping(self) -> None:
        """See whether it answers.

        Raises:
            DatabaseDown: it doesn't.
        """
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def upgrade(self, cipher: Cipher) -> None:
        """Bring the schema up to date; makes it where there is none.

        Args:
            cipher: what an earlier version has encrypted may have to be put into another form.

        Raises:
            DatabaseDown: it could not be done.
        """
        with _mapped(), self._engine.connect() as connection:
            if version_of(connection) == newest_version():
                return
        from storage.migrations.upgrade import upgrade  # Alembic takes longer to import than all else here

        try:
            with _mapped(), self._writing_engine.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(7318349394477056)"))  # one upgrade at a time
                upgrade(connection, cipher)
        except Undecipherable as error:
            raise DatabaseDown(f"the log of an earlier version can't be read: {error}") from error

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def check_url(url: str) -> None:
    """See that a database can be used, as far as its URL tells. Opens nothing.

    Raises:
        ValueError: it is none, or of a kind or driver that isn't supported; in one line, without the URL (which may
            hold a password).
    """
    try:
        parsed = make_url(_with_driver(url))
    except (ArgumentError, ValueError) as error:  # ValueError: of the port
        raise ValueError(f"is not a database's URL: {_in_one_line(error)}") from error
    backend = parsed.get_backend_name()
    try:
        if backend not in ("sqlite", "postgresql"):
            raise ValueError(f"databases are sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, not {backend}")
        dialect = parsed.get_dialect()
        if dialect.is_async:
            raise ValueError(f"the driver {dialect.driver} is asynchronous; leave it out of the URL")
        dialect.import_dbapi()
    except ArgumentError as error:  # a driver that SQLAlchemy does not know
        raise ValueError(f"is not a database's URL: {_in_one_line(error)}") from error
    except ImportError as error:
        raise ValueError(f"its driver is not installed: {_in_one_line(error)}") from error
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("must name a file: several processes share the database")


def _with_driver(url: str) -> str:
    return f"postgresql+psycopg{url.removeprefix('postgresql')}" if url.startswith("postgresql://") else url


def _in_one_line(error: BaseException | None) -> str:
    """Drivers write paragraphs; a log and a terminal want a line."""
    return " ".join(str(error).split())


@contextmanager
def _mapped() -> Iterator[None]:
    """Map what the driver raises to what callers handle; programming errors pass."""
    try:
        yield
    except (DataError, IntegrityError, OverflowError, UnicodeError) as error:
        raise RowRefused(f"the database refuses a row: {_in_one_line(error)}") from error
    except DBAPIError as error:
        raise DatabaseDown(f"the database did not answer: {_in_one_line(error.orig)}") from error
    except (SQLAlchemyError, SchemaUnknown) as error:
        raise DatabaseDown(f"the database can't be used: {_in_one_line(error)}") from error

"""A real PostgreSQL for tests: Debian's, in a directory of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest


class PostgreSQL:
    """One server. It doesn't run as root, so as root it becomes the user `postgres`."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        on_path = shutil.which("pg_ctl")
        if not found and on_path is None:
            pytest.skip("PostgreSQL is not installed")
        self._bin = found[-1].parent if found else Path(str(on_path)).parent
        self._directory = Path(tempfile.mkdtemp(prefix="understudy-postgresql-"))
        self._data = self._directory / "data"
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", self._data)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self._directory}"
        log = self._directory / "log"
        self._run("pg_ctl", "start", "--wait", "--silent", f"--pgdata={self._data}", f"--log={log}", f"-o{options}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is a crash."""
        self._run("pg_ctl", "stop", "--wait", "--silent", f"--pgdata={self._data}", f"--mode={mode}")

    def new_database(self) -> str:
        """Make an empty database; returns its URL."""
        name = f"test_{uuid4().hex[:12]}"
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """Stop it and leave nothing."""
        self.stop()
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: object) -> None:
        """Run one of its programs; the server would hold on to a pipe, so what they say goes to a file."""
        user = "postgres" if os.geteuid() == 0 else None
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [str(self._bin / program), *map(str, arguments)],
                user=user,
                cwd="/",
                stdout=said,
                stderr=said,
                check=False,
            )
            said.seek(0)
            assert done.returncode == 0, f"{program}: {said.read()}"

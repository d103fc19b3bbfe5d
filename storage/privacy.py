"""Modes of what lies in the data directory: nobody but its owner gets in (700) or reads anything (600).

What can be encrypted is; but the database's columns and the metrics say who called what, and the key lies beside them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = 0o077
#: What the product keeps in its data directory; whatever else lies there is somebody else's business.
_OURS = (
    "understudy.db*", "runs.sqlite*", "learner-*.lock", "serving.json", "encryption.key", "admin-token", "spool",
    "artifacts", "metrics",
)  # fmt: skip


def keep_private(data_dir: Path) -> None:
    """Take the rights of others on a data directory, and on what the product keeps in it.

    Raises:
        OSError: they can't be taken: it belongs to another user, or is on a file system without modes.
    """
    _tighten(data_dir, DIRECTORY_MODE)
    for path in _kept(data_dir):
        with contextlib.suppress(FileNotFoundError):  # segments come and go
            _tighten(path, DIRECTORY_MODE if path.is_dir() else FILE_MODE)


def _kept(data_dir: Path) -> Iterator[Path]:
    for pattern in _OURS:
        for path in data_dir.glob(pattern):
            yield path
            yield from path.rglob("*")


def _tighten(path: Path, mode: int) -> None:
    if not path.is_symlink() and path.stat().st_mode & _OTHERS:
        path.chmod(mode)


def make_private_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing, for its owner only; `Path.mkdir` opens the latter to all.

    Raises:
        OSError
    """
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True, mode=DIRECTORY_MODE)


def create_private(path: Path) -> None:
    """Make an empty file, unless there is one.

    It is closed before it gets its name: who closes a SQLite database that another thread has open, drops its locks.

    Raises:
        OSError
    """
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()

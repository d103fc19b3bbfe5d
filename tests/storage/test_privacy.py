"""Nobody but its owner reads the data directory."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.cipher import Cipher
from storage.database import Database
from storage.privacy import create_private, keep_private, make_private_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    """Whatever the product makes, it makes private by itself."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_what_is_made_is_private_with_all_that_was_missing_above_it(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "data" / "spool")
    make_private_directory(tmp_path / "data" / "spool")
    assert [mode(tmp_path / "data"), mode(tmp_path / "data" / "spool")] == [0o700, 0o700]


def test_what_was_open_to_others_is_closed_and_strangers_files_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "spool").mkdir(parents=True)
    (root / "artifacts" / "snapshot-1").mkdir(parents=True)
    for name in ("understudy.db", "understudy.db-wal", "serving.json", "spool/1.seg", "artifacts/snapshot-1/x", "mine"):
        (root / name).touch(0o666)
    (tmp_path / "elsewhere").touch(0o666)
    (root / "spool" / "link").symlink_to(tmp_path / "elsewhere")
    keep_private(root)
    for path in root.rglob("*"):
        if path.name not in ("mine", "link"):
            assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert (mode(root), mode(root / "mine"), mode(tmp_path / "elsewhere")) == (0o700, 0o666, 0o666)


def test_a_database_is_private_from_its_first_moment(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'understudy.db'}")
    database.upgrade(Cipher(b"k" * 32))
    with database.write() as session:
        session.execute(text("DELETE FROM calls"))
        assert {mode(path) for path in tmp_path.glob("understudy.db*")} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["understudy.db"]


def test_a_file_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    threads = [threading.Thread(target=create_private, args=[tmp_path / "file"]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["file"]

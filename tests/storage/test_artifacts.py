"""Artifacts are there whole or not at all, and are what they were or refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from storage.artifacts import MANIFEST, ArtifactStore
from storage.cipher import Cipher
from storage.errors import ArtifactCorrupt, ArtifactMissing


def test_an_artifact_is_unreadable_without_the_key_and_to_anybody_else(tmp_path: Path, cipher: Cipher) -> None:
    artifact_id = ArtifactStore(tmp_path / "a", cipher).put("snapshot", {"a.json": b"a secret prompt"}, {})
    paths = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert all(b"secret" not in path.read_bytes() for path in paths if path.is_file())
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}
    with pytest.raises(ArtifactCorrupt, match=r"a\.json: .*another key"):
        ArtifactStore(tmp_path / "a", Cipher(b"o" * 32)).open(artifact_id)


def test_an_artifact_that_was_touched_is_refused(tmp_path: Path, cipher: Cipher) -> None:
    store = ArtifactStore(tmp_path, cipher)
    artifact_id = store.put("snapshot", {"a.json": b"{}"}, {"calls": 3})
    assert store.open(artifact_id).files == {"a.json": b"{}"}
    (tmp_path / artifact_id / "a.json").write_bytes(b"[]")
    assert store.metadata(artifact_id) == {"calls": 3}
    with pytest.raises(ArtifactCorrupt, match=r"a\.json"):
        store.open(artifact_id)
    with pytest.raises(ArtifactMissing):
        store.open("snapshot-none")
    with pytest.raises(ArtifactMissing):
        store.metadata("snapshot-none")
    (tmp_path / artifact_id / MANIFEST).write_bytes(b"{")
    with pytest.raises(ArtifactCorrupt, match="can't be read"):
        store.metadata(artifact_id)


def test_what_is_kept_is_never_written_over(tmp_path: Path, cipher: Cipher) -> None:
    store = ArtifactStore(tmp_path / "a", cipher)
    store.put("adapter", {"a": b"1"}, {}, "adapter-1")
    with pytest.raises(OSError, match="adapter-1"):
        store.put("adapter", {"a": b"2"}, {}, "adapter-1")
    assert store.open("adapter-1").files == {"a": b"1"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["adapter-1"], "no draft is left"


def test_an_artifact_is_replaced_whole_and_nothing_of_the_old_one_is_left(tmp_path: Path, cipher: Cipher) -> None:
    root = tmp_path / "a"
    store = ArtifactStore(root, cipher)
    other = store.put("snapshot", {"a": b"1"}, {})
    replaced = store.put("dataset", {"a": b"a secret", "b": b"2"}, {"n": 2})
    store.replace(replaced, {"a": b"said less"}, {"n": 1})
    artifact = store.open(replaced)
    assert (artifact.kind, artifact.files, artifact.metadata) == ("dataset", {"a": b"said less"}, {"n": 1})
    assert store.ids("dataset") == [replaced]
    assert sorted(path.name for path in root.iterdir()) == sorted([other, replaced])
    with pytest.raises(ArtifactMissing):
        store.replace("dataset-none", {}, {})
    (root / other / MANIFEST).write_text("no JSON")
    assert store.ids("snapshot") == []


def test_what_a_killed_writer_left_is_swept_away_after_a_day(tmp_path: Path, cipher: Cipher) -> None:
    root = tmp_path / "a"
    store = ArtifactStore(root, cipher)
    store.sweep()
    kept = store.put("snapshot", {"a": b"1"}, {})
    for draft, age in ((".dataset-1.ab", 90_000), (".dataset-2.cd.old", 600)):
        (root / draft).mkdir()
        (root / draft / "samples.jsonl").write_bytes(b"x")
        os.utime(root / draft, (time.time() - age,) * 2)
    store.sweep()
    assert sorted(path.name for path in root.iterdir()) == [".dataset-2.cd.old", kept]

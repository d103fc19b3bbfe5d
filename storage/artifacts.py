"""Immutable, checksummed directories: snapshots, datasets, adapters.

An artifact is written under a temporary name, synced and renamed, so it is there whole or not at all, whatever dies.
Its manifest holds the SHA-256 of every file as it lies there; reading verifies them. Files are encrypted, each for its
place: a snapshot says what prompts say. Names, kind and metadata are not.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.cipher import Cipher, Undecipherable
from storage.errors import ArtifactCorrupt, ArtifactMissing
from storage.privacy import make_private_directory

MANIFEST = "manifest.json"
_DRAFT_SECONDS = 86_400.0  # longer than anybody writes
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Artifact:
    """One artifact, verified.

    Attributes:
        files: name → content.
        metadata: as given to `put`.
    """

    artifact_id: str
    kind: str
    path: Path
    files: dict[str, bytes]
    metadata: dict[str, Any]


class ArtifactStore:
    """Artifacts below one directory."""

    def __init__(self, root: Path, cipher: Cipher) -> None:
        self._root = root
        self._cipher = cipher

    def put(
        self, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any], artifact_id: str | None = None
    ) -> str:
        """Keep files. They are encrypted one by one, in memory.

        Args:
            kind: `snapshot`, `adapter`: the first part of a generated id.
            artifact_id: a name of the caller's; generated where there is none.

        Returns:
            The artifact's id.

        Raises:
            OSError: they can't be written, or there is an artifact of that id. Nothing of them is left.
            OverflowError: one has 2 GiB or more, which AES-GCM does not take in one piece.
        """
        artifact_id = artifact_id or f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        make_private_directory(self._root)
        with self._draft(artifact_id, kind, files, metadata) as draft:
            draft.rename(self._root / artifact_id)
            _sync_directory(self._root)
        return artifact_id

    def replace(self, artifact_id: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Put other files in an artifact's place, for what must not be kept; the old ones are deleted.

        Whoever opens it at that very moment may find none, and a machine that dies then leaves none.

        Raises:
            ArtifactMissing: there is none of that id.
            ArtifactCorrupt: its manifest can't be read.
            OSError, OverflowError: as `put`; the artifact stays as it is.
        """
        path, kind = self._path(artifact_id), self._manifest(artifact_id)["kind"]
        with self._draft(artifact_id, kind, files, metadata) as draft:
            outdated = draft.with_name(f"{draft.name}.old")
            path.rename(outdated)
            try:
                draft.rename(path)
            except OSError:
                outdated.rename(path)
                raise
            _sync_directory(self._root)
        shutil.rmtree(outdated, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what writers left behind that were killed, a day ago or more."""
        for draft in self._root.glob(".*"):
            with suppress(OSError):  # another learner was quicker
                if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                    shutil.rmtree(draft)

    def ids(self, kind: str) -> list[str]:
        """Those of a kind, sorted; one whose manifest can't be read is of none."""
        found = []
        for manifest in sorted(self._root.glob(f"[!.]*/{MANIFEST}")):
            with suppress(ArtifactCorrupt, ArtifactMissing):
                if self._manifest(manifest.parent.name).get("kind") == kind:
                    found.append(manifest.parent.name)
        return found

    def metadata(self, artifact_id: str) -> dict[str, Any]:
        """What was given to `put` beside the files, which are not read.

        Raises:
            ArtifactMissing: there is none of that id.
            ArtifactCorrupt: its manifest can't be read.
        """
        try:
            return dict(self._manifest(artifact_id)["metadata"])
        except _UNREADABLE as error:
            raise ArtifactCorrupt(f"{artifact_id}: can't be read: {error}") from error

    def open(self, artifact_id: str) -> Artifact:
        """Read and verify.

        Raises:
            ArtifactMissing: there is none of that id.
            ArtifactCorrupt: a file is missing, differs from its checksum, or was encrypted with another key.
        """
        try:
            path = self._path(artifact_id)
            manifest = json.loads((path / MANIFEST).read_text())
            files: dict[str, bytes] = {}
            for name, checksum in manifest["sha256"].items():
                sealed = (path / Path(name).name).read_bytes()
                if hashlib.sha256(sealed).hexdigest() != checksum:
                    raise ArtifactCorrupt(f"{artifact_id}: {name} does not have the checksum in its manifest")
                files[name] = self._cipher.decrypt(sealed, _place(artifact_id, name))
            return Artifact(artifact_id, manifest["kind"], path, files, manifest["metadata"])
        except Undecipherable as error:
            raise ArtifactCorrupt(f"{artifact_id}: {name}: {error}") from error
        except _UNREADABLE as error:
            raise ArtifactCorrupt(f"{artifact_id}: can't be read: {error}") from error

    @contextmanager
    def _draft(
        self, artifact_id: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]
    ) -> Iterator[Path]:
        """A whole artifact under a temporary name, for the block to rename; gone if that fails."""
        draft = self._root / f".{artifact_id}.{secrets.token_hex(4)}"
        draft.mkdir(mode=0o700)
        try:
            checksums = {}
            for name, content in files.items():
                sealed = self._cipher.encrypt(content, _place(artifact_id, name))
                _write_durably(draft / name, sealed)
                checksums[name] = hashlib.sha256(sealed).hexdigest()
            manifest = {"kind": kind, "metadata": dict(metadata), "sha256": checksums}
            _write_durably(draft / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            _sync_directory(draft)
            yield draft
        except (OSError, OverflowError):
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def _manifest(self, artifact_id: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._path(artifact_id) / MANIFEST).read_text()))
        except _UNREADABLE as error:
            raise ArtifactCorrupt(f"{artifact_id}: can't be read: {error}") from error

    def _path(self, artifact_id: str) -> Path:
        path = self._root / artifact_id
        if "/" in artifact_id or not path.is_dir():
            raise ArtifactMissing(f"there is no artifact {artifact_id} in {self._root}")
        return path


def _place(artifact_id: str, name: str) -> bytes:
    """What a file is encrypted for, so that none can be put in the place of another."""
    return f"artifact:{artifact_id}/{name}".encode()


def _write_durably(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make sure of the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

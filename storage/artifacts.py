"""Immutable, checksummed directories: snapshots, and later adapters.

An artifact is written under a temporary name, synced and renamed, so it is there whole or not at all, whatever dies.
Its manifest holds the SHA-256 of every file; reading verifies them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import ArtifactCorrupt, ArtifactMissing

MANIFEST = "manifest.json"


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

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(
        self, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any], artifact_id: str | None = None
    ) -> str:
        """Keep files.

        Args:
            kind: `snapshot`, `adapter`: the first part of a generated id.
            artifact_id: a name of the caller's; generated where there is none.

        Returns:
            The artifact's id.
        """
        artifact_id = artifact_id or f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        draft = self._root / f".{artifact_id}.{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        try:
            for name, content in files.items():
                _write_durably(draft / name, content)
            manifest = {
                "kind": kind,
                "metadata": dict(metadata),
                "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            }
            _write_durably(draft / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            _sync_directory(draft)
            draft.rename(self._root / artifact_id)
            _sync_directory(self._root)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return artifact_id

    def open(self, artifact_id: str) -> Artifact:
        """Read and verify.

        Raises:
            ArtifactMissing: there is none of that id.
            ArtifactCorrupt: a file is missing or differs from its checksum.
        """
        path = self._root / artifact_id
        if "/" in artifact_id or not path.is_dir():
            raise ArtifactMissing(f"there is no artifact {artifact_id} in {self._root}")
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            files: dict[str, bytes] = {}
            for name, checksum in manifest["sha256"].items():
                files[name] = (path / Path(name).name).read_bytes()
                if hashlib.sha256(files[name]).hexdigest() != checksum:
                    raise ArtifactCorrupt(f"{artifact_id}: {name} does not have the checksum in its manifest")
            return Artifact(artifact_id, manifest["kind"], path, files, manifest["metadata"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactCorrupt(f"{artifact_id}: can't be read: {error}") from error


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
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

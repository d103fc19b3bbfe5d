"""Adapters that were trained here: kept as artifacts, and restored from them where their server reads them.

The artifact is the truth: encrypted, checksummed, in the data directory and so in its backups. What lies in
`UNDERSTUDY_ADAPTERS_DIR` is a copy of it in plain files, since vLLM reads no others. The hash that a model is
registered with leads to its artifact.

Whole fine-tunes are not kept like this: they have gigabytes, and no running server could load one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog

from proxy.errors import Conflict
from proxy.settings import Settings
from storage.artifacts import ArtifactStore
from storage.errors import ArtifactCorrupt, ArtifactMissing
from storage.models import ModelRow

log = structlog.get_logger()

KIND = "adapter"
_CARD = "model-card.json"


def artifact_of(weights: str) -> str:
    """The id of the artifact that has an adapter, by the hash that it is registered with."""
    return f"{KIND}-{weights[:32]}"


def keep_adapter(artifacts: ArtifactStore, adapter: Path, weights: str, about: Mapping[str, Any]) -> None:
    """Keep all files of an adapter's directory, unless they are kept already. They are in memory meanwhile, twice.

    Raises:
        Conflict: they can't be written, or one has 2 GiB or more. The directory stays as it is.
        ArtifactCorrupt: what is kept of it can't be read.
    """
    artifact_id = artifact_of(weights)
    with suppress(ArtifactMissing):
        artifacts.open(artifact_id)
        return
    try:
        files = {path.name: path.read_bytes() for path in sorted(adapter.iterdir()) if path.is_file()}
        checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        artifacts.put(KIND, files, {**about, "weights": weights, "files": checksums}, artifact_id)
    except (OSError, OverflowError) as error:
        raise Conflict(f"the adapter {adapter} can't be kept as an artifact: {error}") from error


def restore_adapter(settings: Settings, artifacts: ArtifactStore, known: ModelRow | None, adapter: str | None) -> None:
    """See that a registered adapter lies in its place as it was trained; else write it there, whole or not at all.

    One that was trained elsewhere, or before adapters were kept, is left as it is: its server says what it lacks.
    Reads all its files, about a second for a gigabyte: not for an event loop.

    Args:
        known: the model as it is registered, if it is.
        adapter: path that its server is to load.

    Raises:
        Conflict: it can't be restored.
    """
    if known is None or known.weights is None or adapter is None or adapter != known.adapter:
        return
    place = Path(adapter)
    if place.parent != settings.adapters_dir.absolute():
        return
    artifact_id = artifact_of(known.weights)
    try:
        checksums = artifacts.metadata(artifact_id)["files"]
    except ArtifactMissing:
        return
    except ArtifactCorrupt as error:
        raise Conflict(f"nothing says whether the adapter {place} is whole: {error}") from error
    if _is_whole(place, checksums):
        return
    if _is_of_another(place, known.weights):
        raise Conflict(f"{place} holds another model than {known.name!r} was registered with: move that away")
    try:
        _write_out(place, artifacts.open(artifact_id).files)
    except (ArtifactCorrupt, OSError) as error:
        if _is_whole(place, checksums):  # somebody else was faster
            return
        raise Conflict(f"the adapter {place} is gone or damaged, and can't be restored: {error}") from error
    log.info("adapter.restored", model=known.name, place=adapter, artifact=artifact_id)


def _is_whole(place: Path, checksums: Mapping[str, str]) -> bool:
    """Whether all files are there as they were kept; what else lies there doesn't matter."""
    try:
        return all(_checksum(place / name) == checksum for name, checksum in checksums.items())
    except OSError:
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_of_another(place: Path, weights: str) -> bool:
    """Whether a directory says that it is no damaged copy but another model, trained under the same name just now."""
    try:
        said = json.loads((place / _CARD).read_text(encoding="utf-8"))["weights"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(said != weights)


def _write_out(place: Path, files: Mapping[str, bytes]) -> None:
    """Put files in the place of what lies there.

    Raises:
        OSError: they can't be written, or another process put some there at the same moment.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".restoring-", dir=place.parent) as draft:
        restored = Path(draft) / "restored"  # with the usual rights: the server may run as somebody else
        restored.mkdir()
        for name, content in files.items():
            (restored / name).write_bytes(content)
        with suppress(FileNotFoundError):
            place.rename(Path(draft) / "damaged")
        restored.rename(place)

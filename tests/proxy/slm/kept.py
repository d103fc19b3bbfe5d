"""An adapter that was trained here, as far as its keeping goes: its files, its artifact, and how they are damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.settings import Settings
from proxy.slm.kept_adapters import artifact_of, keep_adapter, restore_adapter
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.models import ModelRow
from tests.proxy.fake_vllm import BASE

WEIGHTS = "0123456789abcdef" * 4
_FILES = {
    "adapter_config.json": json.dumps({"base_model_name_or_path": BASE}).encode(),
    "adapter_model.safetensors": bytes(range(256)) * 40,
    "model-card.json": json.dumps({"weights": WEIGHTS}).encode(),
}


@dataclass(frozen=True)
class Kept:
    """The model `triage`, trained and kept."""

    settings: Settings
    artifacts: ArtifactStore

    @property
    def place(self) -> Path:
        return self.settings.adapters_dir / "triage"

    @property
    def artifact(self) -> Path:
        return self.settings.artifacts_dir / artifact_of(WEIGHTS)

    def row(self, **changes: Any) -> ModelRow:
        """As it is registered, but for `changes`."""
        columns: dict[str, Any] = {"adapter": str(self.place), "weights": WEIGHTS}
        return ModelRow(name="triage", slm="gpu", created_at=datetime.now(UTC), **(columns | changes))

    def restore(self) -> None:
        restore_adapter(self.settings, self.artifacts, self.row(), str(self.place))

    def is_whole(self) -> bool:
        try:
            return all((self.place / name).read_bytes() == content for name, content in _FILES.items())
        except OSError:
            return False

    def damage(self, how: str) -> None:
        """Make it what a lost volume, a bad disk or a cut copy leave."""
        weights = self.place / "adapter_model.safetensors"
        if how == "gone":
            shutil.rmtree(self.place)
        elif how == "volume-gone":
            shutil.rmtree(self.place.parent)
        elif how == "changed":
            content = bytearray(weights.read_bytes())
            content[77] ^= 1
            weights.write_bytes(content)
        elif how == "file-gone":
            weights.unlink()
        elif how == "half-written":
            weights.write_bytes(weights.read_bytes()[:100])
        else:
            shutil.rmtree(self.place)
            self.place.write_bytes(b"")


def keep_one(settings: Settings, cipher: Cipher) -> Kept:
    """Write its files, and keep them."""
    kept = Kept(settings, ArtifactStore(settings.artifacts_dir, cipher))
    kept.place.mkdir(parents=True)
    for name, content in _FILES.items():
        (kept.place / name).write_bytes(content)
    keep_adapter(kept.artifacts, kept.place, WEIGHTS, {"name": "triage"})
    return kept

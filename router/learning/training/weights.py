"""Which files make a model what it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

#: Weights, their form, and how text becomes tokens. Not the model cards: they say when.
_TELLING = ("*.safetensors", "*config.json", "tokenizer*", "*.jinja", "*.model", "vocab.*", "merges.txt")


def weights_digest(*directories: Path) -> str:
    """Name exactly these weights: SHA-256 over the files of a base model and of an adapter, if there is one.

    Reads all of them: about a second for a gigabyte.
    """
    digest = hashlib.sha256()
    for directory in directories:
        for path in sorted({path for pattern in _TELLING for path in directory.glob(pattern)}):
            with path.open("rb") as file:
                of_file = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {of_file}\n".encode())
    return digest.hexdigest()

"""Whether a LoRA adapter fits a base model, told by their files: vLLM loads one of another base and answers rubbish."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from proxy.errors import Unprocessable

#: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` → the weight of the base that it stands beside.
_LORA = re.compile(r"\Abase_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight\Z")
_MAX_HEAD_BYTES = 100 * 2**20


def adapter_base(adapter: Path) -> str | None:
    """The base model that an adapter names; None where it names none.

    Raises:
        Unprocessable: it is no LoRA adapter.
    """
    try:
        named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unprocessable(f"{adapter} is no LoRA adapter: adapter_config.json can't be read") from error
    return str(named) if named else None


def check_shapes(adapter: Path, base: Path) -> None:
    """See that every matrix of an adapter has its place in a base model, by the heads of their files.

    A base whose files can't be read here is not checked: the server may see a file system that we don't.

    Raises:
        Unprocessable: it was trained for another model.
    """
    weights = _shapes(base)
    if not weights:
        return
    for name, shape in _shapes(adapter).items():
        found = _LORA.match(name)
        if found is None or len(shape) != 2:
            continue
        beside = weights.get(f"{found['module']}.weight")
        if beside is None:
            raise Unprocessable(f"the adapter {adapter} is for another base model: {base} has no {found['module']}")
        of_adapter, of_base = (shape[1], beside[-1]) if found["side"] == "A" else (shape[0], beside[0])
        if of_adapter != of_base:
            raise Unprocessable(
                f"the adapter {adapter} is for another base model: {found['module']} is {of_adapter} wide in it, and "
                f"{of_base} in {base}"
            )


def _shapes(directory: Path) -> dict[str, list[int]]:
    """The tensors of a directory's safetensors files and their shapes, as far as they can be read."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        shapes |= {name: tensor["shape"] for name, tensor in _head(path).items() if name != "__metadata__"}
    return shapes


def _head(path: Path) -> dict[str, Any]:
    """A safetensors file's own table of contents: eight bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return dict(json.loads(file.read(size))) if size <= _MAX_HEAD_BYTES else {}
    except (OSError, ValueError):
        return {}

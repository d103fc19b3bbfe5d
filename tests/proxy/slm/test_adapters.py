"""Whether an adapter fits a base: by names and shapes in the heads of real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from proxy.errors import Unprocessable
from proxy.slm.adapters import adapter_base, check_shapes


def base_of(path: Path, width: int = 8, layers: int = 2) -> Path:
    path.mkdir()
    shape = {f"model.layers.{number}.self_attn.q_proj.weight": np.zeros((2 * width, width)) for number in range(layers)}
    save_file(shape, path / "model.safetensors")
    return path


def adapter_of(path: Path, width: int = 8, layers: int = 2) -> Path:
    path.mkdir()
    prefix = "base_model.model.model.layers"
    tensors = {}
    for number in range(layers):
        tensors[f"{prefix}.{number}.self_attn.q_proj.lora_A.weight"] = np.zeros((4, width))
        tensors[f"{prefix}.{number}.self_attn.q_proj.lora_B.weight"] = np.zeros((2 * width, 4))
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/models/base"}))
    return path


def test_an_adapter_fits_the_base_it_was_trained_on(tmp_path: Path) -> None:
    check_shapes(adapter_of(tmp_path / "adapter"), base_of(tmp_path / "base"))


@pytest.mark.parametrize(
    ("other", "said"),
    [({"width": 16}, "q_proj is 8 wide in it, and 16 in"), ({"layers": 1}, "has no model.layers.1.self_attn.q_proj")],
)
def test_an_adapter_for_another_base_is_refused(tmp_path: Path, other: dict[str, int], said: str) -> None:
    with pytest.raises(Unprocessable, match=said):
        check_shapes(adapter_of(tmp_path / "adapter"), base_of(tmp_path / "base", **other))


def test_a_base_that_lies_elsewhere_is_not_checked(tmp_path: Path) -> None:
    check_shapes(adapter_of(tmp_path / "adapter"), tmp_path / "on another machine")


def test_a_directory_that_holds_no_adapter_is_named(tmp_path: Path) -> None:
    assert adapter_base(adapter_of(tmp_path / "adapter")) == "/models/base"
    with pytest.raises(Unprocessable, match="is no LoRA adapter"):
        adapter_base(tmp_path)

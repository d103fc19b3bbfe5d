"""What was tested is what gets installed: each pin is one that pip takes, whichever pip."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", ["constraints.txt", "deploy/vllm-cpu/constraints.txt"])
def test_every_pin_names_one_version(path: str) -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / path).read_text().splitlines()]
    pins = [Requirement(line) for line in lines if line]
    assert len(pins) > 50
    assert [str(pin) for pin in pins if [each.operator for each in pin.specifier] != ["=="]] == []

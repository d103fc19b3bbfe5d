"""Samples written by hand, in the shapes that the vendors document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """A sample by its name."""
    return lambda name: Path(__file__).parent.parent / "data" / "imports" / name

"""Recorded streams."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="session")
def recorded_streams() -> list[dict[str, Any]]:
    """`{"id", "endpoint", "sse", "assembled"}` of 150 streams."""
    path = DATA / "sse_recorded.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no recorded streams: {path} is not there")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]

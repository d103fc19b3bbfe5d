"""A reader with all recognisers."""

from __future__ import annotations

import pytest

from router.learning.curation.reading import Reader, standard_recognisers


@pytest.fixture(scope="session")
def reader() -> Reader:
    """One for all: Presidio takes seconds to load."""
    return Reader(standard_recognisers())

"""The operator's own model of names, among what masks samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import Conflict
from proxy.learning.curation import curate_cluster
from proxy.learning.workshop import Workshop
from proxy.settings import Settings
from router.learning.curation.samples import Curated
from tests.proxy.proving.test_evaluation import know, log_calls, tickets
from tests.router.learning.curation import tiny_ner


def curated(directory: Path, names_model: str | None) -> Curated:
    workshop = Workshop.open(Settings(data_dir=directory, names_model=names_model), lambda line: None)
    know(workshop)
    log_calls(workshop, tickets(12))
    try:
        return curate_cluster(workshop.database, workshop.cipher, workshop.settings, "c-1", lambda line: None)
    finally:
        workshop.database.close()


def said(found: Curated) -> str:
    return "".join(str(message) for sample in found.train for message in sample.chat)


def test_it_masks_what_it_takes_for_names(tmp_path: Path) -> None:
    """This one takes every word for a name, the answers' too, which can't be learned from then."""
    (tmp_path / "without").mkdir()
    (tmp_path / "with").mkdir()
    plain = curated(tmp_path / "without", None)
    assert plain.train
    assert "PERSON" not in said(plain)
    masked = curated(tmp_path / "with", tiny_ner.make(tmp_path / "ner"))
    assert "PERSON" in said(masked) or sum(masked.drops.values()) > sum(plain.drops.values())


def test_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"UNDERSTUDY_NAMES_MODEL=\./no-such-model: "):
        curated(tmp_path, "./no-such-model")

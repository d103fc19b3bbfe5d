"""Datasets as they are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from router.contract import ContractKind, OutputContract
from router.learning.curation.drops import Drop
from router.learning.curation.samples import Curated, HeldOut
from router.learning.curation.weighed import WeighedToken
from router.learning.training.dataset import Dataset, DatasetInvalid
from router.learning.training.validation import MIN_CONVERSATIONS, validation_conversations
from tests.router.learning.training.conftest import filing, sorting


def dataset() -> Dataset:
    held_out = [
        HeldOut(f"kept-{number}", f"of-{number}", datetime(2026, 2, number, tzinfo=UTC)) for number in (1, 2, 3)
    ]
    curated = Curated(
        train=(*sorting(5), *filing(2)),
        calibration=tuple(held_out[:1]),
        certification=tuple(held_out[1:]),
        drops={Drop.DUPLICATE: 4},
        masked={"email": 2},
    )
    return Dataset("c-1", OutputContract(ContractKind.LABEL, labels=("fruit", "metal")), curated)


def test_what_was_kept_is_what_is_read() -> None:
    assert Dataset.load(dataset().dump()) == dataset()
    token = WeighedToken("fruit", (("fruit", -0.1), ("metal", -2.0)))
    one = dataset()
    weighed = replace(one.curated.train[0], weighed=(token,))
    weighed_too = replace(one, curated=replace(one.curated, train=(weighed, *one.curated.train[1:])))
    assert Dataset.load(weighed_too.dump()) == weighed_too
    assert weighed_too.digest != one.digest


def test_the_digest_names_the_samples_the_held_out_calls_and_the_contract() -> None:
    one = dataset()
    others = [
        replace(one, cluster_id="c-2"),
        replace(one, contract=OutputContract(ContractKind.LABEL, labels=("fruit",))),
        replace(one, curated=replace(one.curated, train=one.curated.train[1:])),
        replace(one, curated=replace(one.curated, calibration=())),
    ]
    assert len({each.digest for each in (one, *others)}) == 5
    assert dataset().digest == one.digest


@pytest.mark.parametrize("file", ["samples.jsonl", "held-out.json", "about.json"])
def test_files_of_another_dataset_are_refused(file: str) -> None:
    files = dataset().dump()
    other = replace(dataset(), cluster_id="c-2", curated=replace(dataset().curated, train=(), calibration=()))
    for content in (other.dump()[file], b"[]", b"\xff"):
        with pytest.raises(DatasetInvalid, match=r"^not (a|the) dataset"):
            Dataset.load(files | {file: content})
    with pytest.raises(DatasetInvalid):
        Dataset.load({name: content for name, content in files.items() if name != file})


def test_validation_takes_whole_conversations_and_none_where_there_are_few() -> None:
    names = [f"c-{number // 2}" for number in range(200)]
    kept = validation_conversations(names, 0.1, seed=0)
    assert len(kept) == 10
    assert kept == validation_conversations(list(reversed(names)), 0.1, seed=0)
    assert kept != validation_conversations(names, 0.1, seed=1)
    assert validation_conversations(names[: 2 * MIN_CONVERSATIONS - 2], 0.1, seed=0) == frozenset()
    assert validation_conversations(names, 0, seed=0) == frozenset()

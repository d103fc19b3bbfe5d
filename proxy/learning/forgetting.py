"""Datasets forget what the log forgot.

Samples say what calls said, masked. Those whose calls are gone from the log, by their age or because somebody asked for
it, are taken out of the datasets that were made of them. What is left still says which calls an SLM was not trained on.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from proxy.learning.training import KIND
from router.learning.training.dataset import Dataset, DatasetInvalid
from storage.artifacts import ArtifactStore
from storage.database import Database
from storage.errors import ArtifactCorrupt, ArtifactMissing
from storage.ids import parse_call_id
from storage.repositories.calls import known_calls

log = structlog.get_logger()


def forget_samples(artifacts: ArtifactStore, database: Database) -> int:
    """Take the samples of calls that are gone out of all datasets; says how many there were.

    Raises:
        DatabaseDown: some datasets may be done.
    """
    forgotten = 0
    for dataset_id in artifacts.ids(KIND):
        try:
            forgotten += _forget(artifacts, database, dataset_id)
        except ArtifactMissing:
            continue
        except (ArtifactCorrupt, DatasetInvalid, OSError) as error:
            log.warning("dataset.not_forgotten", dataset=dataset_id, error=str(error))
    return forgotten


def _forget(artifacts: ArtifactStore, database: Database, dataset_id: str) -> int:
    artifact = artifacts.open(dataset_id)
    dataset = Dataset.load(artifact.files)
    samples = dataset.curated.train
    call_ids = [parse_call_id(sample.call_id) for sample in samples]
    with database.read() as session:
        known = known_calls(session, call_ids)
    kept = tuple(sample for sample, call_id in zip(samples, call_ids, strict=True) if call_id in known)
    if len(kept) < len(samples):
        left = replace(dataset, curated=replace(dataset.curated, train=kept))
        about = artifact.metadata | {"digest": left.digest, "train": len(kept)}
        artifacts.replace(dataset_id, left.dump(), about)
    return len(samples) - len(kept)

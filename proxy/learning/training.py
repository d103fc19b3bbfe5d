"""`understudy train`: one task's calls into a dataset, and a dataset into a registered SLM.

Its heavy half is `router.learning.training`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from proxy.errors import BadRequest, Conflict, NoSuchThing, Unprocessable
from proxy.learning.curation import curate_cluster
from proxy.learning.workshop import Workshop
from proxy.settings import Settings
from proxy.slm.kept_adapters import keep_adapter
from proxy.slm.vllm import VllmServer
from router.contract import OutputContract
from router.learning.training import recipe as recipes
from router.learning.training.dataset import Dataset, DatasetInvalid
from router.learning.training.errors import TrainingFailed
from router.learning.training.model_card import ModelCard
from storage.errors import ArtifactMissing
from storage.models import ModelRow
from storage.repositories.clusters import get_cluster
from storage.repositories.costs import add_cost
from storage.repositories.registry import audit, get_model, register_model

Method = Literal["lora", "qlora", "full"]

KIND = "dataset"
ACTOR = "learner"
_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def make_dataset(workshop: Workshop, cluster_id: str) -> str:
    """Curate a cluster's calls and keep what came of it.

    Returns:
        The id of an artifact of the kind `dataset`; `open_dataset` reads it.

    Raises:
        Conflict: the LLM's terms forbid it, or what learning needs is not installed.
        NotFound: there is no such cluster.
        DatabaseDown: nothing is lost.
    """
    curated = curate_cluster(workshop.database, workshop.cipher, workshop.settings, cluster_id, workshop.progress)
    with workshop.database.read() as session:
        contract = OutputContract.from_json(get_cluster(session, workshop.cipher, cluster_id).contract)
    dataset = Dataset(cluster_id, contract, curated)
    about = {
        "cluster_id": cluster_id,
        "digest": dataset.digest,
        "train": len(curated.train),
        "calibration": len(curated.calibration),
        "certification": len(curated.certification),
    }
    return workshop.artifacts.put(KIND, dataset.dump(), about)


def open_dataset(workshop: Workshop, dataset_id: str) -> Dataset:
    """A dataset that `make_dataset` kept.

    Raises:
        ArtifactMissing, ArtifactCorrupt: there is none, or it can't be read.
        Unprocessable: the artifact is something else.
    """
    artifact = workshop.artifacts.open(dataset_id)
    try:
        return Dataset.load(artifact.files)
    except DatasetInvalid as error:
        raise Unprocessable(f"the artifact {dataset_id}, a {artifact.kind}, can't be trained on: {error}") from error


def fine_tune(
    workshop: Workshop,
    dataset_id: str,
    *,
    base: str | None = None,
    method: Method = "lora",
    name: str | None = None,
    slm: str | None = None,
    recipe: recipes.Recipe | None = None,
) -> str:
    """Fine-tune a base model on a dataset and register what comes of it. Called again after it was killed, it goes on.

    An adapter can be promoted as it is: vLLM loads it then. It is kept as an artifact too, to restore its directory. A
    full fine-tune has gigabytes: its directory is all there is of it. It has to be served first.

    Args:
        base: directory or hub name of the base model; by default what the SLM server says that it serves.
        name: the model's; by default made of the cluster and the arguments.
        slm: server name; may be left out where there is one server only.
        recipe: how; by default what suits the base model's size.

    Returns:
        The name of the registered model.

    Raises:
        BadRequest: the name can't be a directory's.
        Conflict: the SLM server can't be reached, another model has that name, or the directory can't be written. Or
            the adapter can't be kept: it is registered all the same, and the message says how to go on.
        NoSuchThing: no such SLM server.
        Unprocessable: it can't be trained; the message says why.
        ArtifactMissing, ArtifactCorrupt: the dataset.
        DatabaseDown: called again, it goes on.
    """
    dataset = open_dataset(workshop, dataset_id)
    server = slm_server(workshop.settings, slm)
    base = base or _served_base(server)
    place = _place(workshop, dataset, base, method, name)
    with paid(workshop, dataset, place.name), failures_named():
        from router.learning.training import fine_tuning  # takes seconds: what is refused, is refused before

        card = fine_tuning.fine_tune(
            base,
            place.path,
            dataset.curated.train,
            method=recipes.Method(method),
            recipe=recipe,
            task=dataset.cluster_id,
            origin=dataset_id,
            progress=workshop.progress,
        )
    _register(workshop, dataset, dataset_id, server, place, card)
    if place.is_adapter:
        _keep(workshop, dataset, place, card)
    return place.name


def trained_on(workshop: Workshop, model: str) -> Dataset | None:
    """The dataset that a model was fine-tuned on, whose held-out calls it has never seen.

    Returns:
        None where it was trained elsewhere, or its dataset is gone.

    Raises:
        ArtifactCorrupt: its dataset can't be read.
    """
    with workshop.database.read() as session:
        row = get_model(session, model)
    place = (row.adapter or row.base) if row else None
    card = ModelCard.read(Path(place)) if place else None
    if row is None or card is None or card.origin is None or card.weights != row.weights:
        return None
    try:
        return open_dataset(workshop, card.origin)
    except ArtifactMissing:
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model will be, and under which name."""

    name: str
    path: Path
    is_adapter: bool

    @property
    def adapter(self) -> str | None:
        return str(self.path) if self.is_adapter else None


def slm_server(settings: Settings, slm: str | None) -> VllmServer:
    """The SLM server that is meant.

    Raises:
        NoSuchThing, BadRequest
    """
    known = ", ".join(settings.slm_url) or "none"
    if slm is None and len(settings.slm_url) != 1:
        raise BadRequest(f"which SLM server is it for? UNDERSTUDY_SLM_URL names {known}")
    slm = slm or next(iter(settings.slm_url))
    if slm not in settings.slm_url:
        raise NoSuchThing(f"there is no SLM server {slm!r}; UNDERSTUDY_SLM_URL names {known}")
    return VllmServer(slm, settings.slm_url[slm], settings.slm_api_key)


def _served_base(server: VllmServer) -> str:
    """The base model that a server says it serves.

    Raises:
        Conflict: it can't be reached, or it has none or several.
    """
    roots = sorted(model.root for model in server.base_models() if model.root)
    if len(roots) != 1:
        raise Conflict(
            f"the SLM server {server.name!r} serves {', '.join(roots) or 'no base model that it names'}; "
            "say which base model is to be trained"
        )
    return roots[0]


def _place(workshop: Workshop, dataset: Dataset, base: str, method: Method, name: str | None) -> _Place:
    """Where the model goes.

    Raises:
        BadRequest, Conflict
    """
    if name is None:
        name = f"{dataset.cluster_id}-{method}-{sha256(f'{dataset.digest} {base}'.encode()).hexdigest()[:8]}"
    if not _NAME.match(name):
        raise BadRequest(f"a model's name is up to 100 letters, digits, '.', '_' and '-', not {name[:120]!r}")
    place = _Place(name, workshop.settings.adapters_dir.absolute() / name, method != "full")
    with workshop.database.read() as session:
        known = get_model(session, name)
    if known is not None and known.adapter != place.adapter:
        raise Conflict(f"another model is registered as {name!r}: {known.adapter or known.base}; choose another name")
    return place


@contextmanager
def paid(workshop: Workshop, dataset: Dataset, model: str) -> Iterator[None]:
    """Write down what the time until the end of the block costs, also where nothing comes of it.

    A killed learner's last stretch stays unwritten.
    """
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        usd = seconds / 3600 * workshop.settings.training_usd_per_hour
        if usd:
            with workshop.database.write() as session:
                figures = {"seconds": round(seconds, 1), "model": model, "dataset": dataset.digest}
                add_cost(session, "training", dataset.cluster_id, usd, figures)


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise what learning raises as the proxy's own errors.

    Raises:
        Conflict, Unprocessable
    """
    try:
        yield
    except ImportError as error:
        raise Conflict(f"{error.name} is not installed; pip install 'understudy[train]'") from error
    except TrainingFailed as error:
        raise Unprocessable(str(error)) from error
    except FileExistsError as error:
        raise Conflict(str(error)) from error
    except OSError as error:
        raise Conflict(f"the model can't be written: {error}") from error


def _register(
    workshop: Workshop, dataset: Dataset, dataset_id: str, server: VllmServer, place: _Place, card: ModelCard
) -> None:
    """Make the model known, and say what is left to do."""
    with workshop.database.write() as session:
        known = get_model(session, place.name)
        if known is not None and known.weights == card.weights:
            return
        row = ModelRow(
            name=place.name,
            slm=server.name,
            adapter=place.adapter,
            base=card.base if place.is_adapter else str(place.path),
            max_context_tokens=card.settings["context_tokens"],
            weights=card.weights,
            created_at=datetime.now(UTC),
        )
        register_model(session, row)
        audit(
            session, ACTOR, "model.trained", place.name, cluster=dataset.cluster_id, dataset=dataset_id,
            base=card.base, method=card.method, weights=card.weights,
        )  # fmt: skip
    if not place.is_adapter:
        workshop.progress(
            f"trained {place.name}: a whole model, which no running server can load; start one with "
            f"`vllm serve {place.path} --served-model-name {place.name}`, name it in UNDERSTUDY_SLM_URL"
        )


def _keep(workshop: Workshop, dataset: Dataset, place: _Place, card: ModelCard) -> None:
    """Keep a trained adapter as an artifact.

    Raises:
        Conflict: it can't be written; the adapter stays in its place, registered.
        ArtifactCorrupt: what was kept of it can't be read.
    """
    about = {"name": place.name, "base": card.base, "dataset": dataset.digest}
    try:
        keep_adapter(workshop.artifacts, place.path, card.weights, about)
    except Conflict as error:
        raise Conflict(
            f"{place.name} is trained and registered, but no backup of the data directory would have it: {error}. Make "
            f"room and ask for the same training again, or go on without: `understudy evaluate {dataset.cluster_id} "
            f"--model {place.name}`"
        ) from error

"""`understudy train`: one task's calls into a dataset, and a dataset into an SLM.

Its heavy half is `router.learning.training`.
"""

from __future__ import annotations

from typing import Literal

from proxy.workshop import Workshop

Method = Literal["lora", "qlora", "full"]


def make_dataset(workshop: Workshop, cluster_id: str) -> str:
    """Curate a cluster's calls and keep what came of it.

    Returns:
        The id of an artifact of the kind `dataset`; `router.learning.training.dataset` reads it.

    Raises:
        Conflict: the LLM's terms forbid it, or what learning needs is not installed.
        NotFound: there is no such cluster.
        DatabaseDown: nothing is lost.
    """
    raise NotImplementedError


def fine_tune(
    workshop: Workshop,
    dataset_id: str,
    *,
    base: str | None = None,
    method: Method = "lora",
    name: str | None = None,
    slm: str | None = None,
) -> str:
    """Fine-tune a base model on a dataset and register what comes of it. Called again after it was killed, it goes on.

    Args:
        base: directory or hub name of the base model; by default what the SLM server says that it serves.
        name: the model's; by default made of the cluster and the arguments.
        slm: server name; may be left out where there is one server only.

    Returns:
        The name of the registered model.

    Raises:
        Conflict: the SLM server can't be reached, or another model has that name.
        NoSuchThing: no such SLM server.
        Unprocessable: it can't be trained; the message says why.
        ArtifactMissing, ArtifactCorrupt: the dataset.
        DatabaseDown: called again, it goes on.
    """
    raise NotImplementedError

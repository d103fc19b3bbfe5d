"""Which SLM may serve which cluster, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The life of an SLM on a cluster."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Promotion:
    """The current SLM of a cluster.

    Attributes:
        cluster_id: the task.
        model: name under which the SLM server knows the model or adapter.
        stage: `shadow` serves nobody, `canary` serves `share` of the calls, `live` all.
        share: in [0, 1]; 1 for live.
        slm: name of the SLM server in `UNDERSTUDY_SLM_URL`.
        adapter: path or artifact id of the LoRA adapter to load there, None when the model is served as it is.
        max_context_tokens: what the SLM takes, prompt and answer together; None when its server doesn't say.
        version: grows with every change of the cluster's promotion.
    """

    cluster_id: str
    model: str
    stage: Stage
    share: float
    slm: str
    adapter: str | None = None
    max_context_tokens: int | None = None
    version: int = 0

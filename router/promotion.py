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


class Cause(StrEnum):
    """Why an SLM moved to another stage."""

    ASKED = "asked"
    """Somebody asked, and nothing stood against it."""
    FORCED = "forced"
    """Somebody asked for it against what was proved, or without proof."""
    EVIDENCE = "evidence"
    """What was proved allowed it, and the settings let it go on by itself."""
    REPLACED = "replaced"
    """Another SLM took its place."""
    BOUND_BROKEN = "bound_broken"
    """The audit showed that it disagrees with the LLM more often than its certificate promised."""
    DRIFT = "drift"
    """The traffic no longer looks like what was certified."""
    SLM_FAILING = "slm_failing"
    """It doesn't answer, or not properly."""
    UNPROVED = "unproved"
    """Its certificate expired, or speaks of a contract, skeleton, LLM or weights that are no longer in use."""
    TASK_CHANGED = "task_changed"
    """The task is no longer discovered, was split, or merged with another."""

    @property
    def voids_certificate(self) -> bool:
        """Whether what was proved before no longer counts."""
        return self in (Cause.BOUND_BROKEN, Cause.DRIFT, Cause.TASK_CHANGED)


# Forward may skip stages: a certificate proves as much as shadow and canary do, and it is the promotion that asks for
# one. A stage may follow itself, with another share, server or certificate. Only a candidate can start again.
_MOVES = {
    Stage.CANDIDATE: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
    Stage.SHADOW: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
    Stage.CANARY: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
    Stage.LIVE: frozenset({Stage.SHADOW, Stage.CANARY, Stage.LIVE, Stage.RETIRED}),
    Stage.RETIRED: frozenset({Stage.CANDIDATE}),
}


def refusal(current: Stage, wanted: Stage) -> str | None:
    """Why an SLM can't move from one stage to another, in one line; None when it can."""
    if wanted in _MOVES[current]:
        return None
    if current is wanted:
        return f"the SLM is at stage {wanted.value} already"
    if current is Stage.RETIRED:
        return f"a retired SLM can't become {wanted.value}; it has to become a candidate again first"
    return f"an SLM at stage {current.value} can't become a candidate; it can be retired"


def needs_certificate(wanted: Stage) -> bool:
    """Whether an SLM serves anybody at a stage: then its agreement with the LLM has to be proved first."""
    return wanted in (Stage.CANARY, Stage.LIVE)


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
        min_confidence: mean token probability that its certificate asks of an answer; 0 serves any that has one, None
            (it goes without a certificate) those without one too.
        audit_share: of its served calls that the LLM answers too; None: `UNDERSTUDY_AUDIT_SHARE`.
        in_doubt: of late it disagreed, or the LLM changed, and the LLM answers until agreements outweigh that.
    """

    cluster_id: str
    model: str
    stage: Stage
    share: float
    slm: str
    adapter: str | None = None
    max_context_tokens: int | None = None
    version: int = 0
    min_confidence: float | None = None
    audit_share: float | None = None
    in_doubt: bool = False

"""What the admin API takes and gives. Answers are documented here, in OpenAPI, and nowhere else."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from proxy.runs.queue import Run, RunKind, RunStatus
from router.promotion import Cause, Stage

Item = TypeVar("Item")


class PromotionWish(BaseModel):
    """Body of a promotion."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="model or adapter, as its server knows it")
    stage: Literal["shadow", "canary", "live"]
    share: float | None = Field(None, gt=0, le=1, description="of the calls that a canary serves; 0.1 when left out")
    slm: str | None = Field(None, description="server name in UNDERSTUDY_SLM_URL; needed where there are several")
    adapter: str | None = Field(None, description="LoRA adapter's path, as the SLM server sees it")
    force: bool = Field(False, description="without a certificate; needs a reason and the admin role")
    reason: str | None = None
    audit_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of its served calls that the LLM answers too; 0: never any; "
        "null: UNDERSTUDY_AUDIT_SHARE, and more on a thin certificate",
    )


class ModelEntry(BaseModel):
    """A registered SLM."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="as its server knows it")
    slm: str = Field(description="server name in UNDERSTUDY_SLM_URL")
    adapter: str | None = Field(None, description="LoRA adapter's path, as the SLM server sees it")
    base: str | None = Field(None, description="model that the adapter sits on")
    max_context_tokens: int | None = Field(None, gt=0, description="prompt and answer together")
    weights: str | None = Field(
        None, min_length=1, description="hash of its files; a certificate ends when other weights come under its name"
    )


class PromotionShown(BaseModel):
    """A promotion in force, or the one that has just ended (`retired`)."""

    cluster_id: str
    model: str
    stage: Stage
    share: float
    slm: str
    adapter: str | None
    max_context_tokens: int | None
    version: int
    min_confidence: float | None = Field(description="mean token probability that its certificate asks of an answer")
    audit_share: float | None = Field(
        None, description="of its served calls that the LLM answers too now; null: UNDERSTUDY_AUDIT_SHARE"
    )
    in_doubt: bool = Field(
        False, description="of late it disagreed, or the LLM changed: the LLM answers until agreements outweigh that"
    )


class PastPromotion(BaseModel):
    """A line of a cluster's history."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    stage: Stage
    share: float
    slm: str
    adapter: str | None
    forced: bool
    reason: str | None
    actor: str
    created_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    certificate_id: int | None = Field(description="what it was granted on")
    min_confidence: float | None


class StageMove(BaseModel):
    """A step in an SLM's life on a task."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    from_stage: Stage
    to_stage: Stage
    at: datetime
    actor: str
    cause: Cause
    reason: str | None
    figures: dict[str, Any] = Field(description="what was known when it was made")


class CertificateShown(BaseModel):
    """What was proved of an SLM on a task; beside these figures all others of the certificate."""

    model_config = ConfigDict(extra="allow")

    id: int
    model: str
    comparator: str = Field(description="what counts as agreement")
    n: int = Field(description="calls compared that would be served, one of each conversation")
    failures: int
    disagreement_bound: float = Field(description="upper confidence bound on disagreement among served calls")
    alpha: float = Field(description="the risk")
    delta: float = Field(description="1 − the confidence")
    threshold: float | None = Field(description="mean token probability under which an answer isn't served")
    coverage: float = Field(description="share of the calls that would be served")
    data_hash: str
    issued_at: datetime
    expires_at: datetime
    passes: bool = Field(description="it proves its own risk; `missing_proof` says whether it holds today")
    method: str


class Shares(BaseModel):
    """Parts of the whole log, in [0, 1]."""

    calls: float
    tokens: float
    cost: float


class Cluster(BaseModel):
    """A discovered task."""

    id: str
    label: str
    contract: dict[str, Any] = Field(description="the form of its answers")
    calls: int
    slm_calls: int
    tokens: int
    cost_usd: float
    share: Shares
    stage: Stage | None = Field(description="None: the LLM answers")
    promotion: PromotionShown | None
    certificate: CertificateShown | None = Field(
        description="the newest of the promoted SLM, else of any; passing or not"
    )
    candidates: list[ModelEntry] = Field(description="registered SLMs that it could be promoted to")


class MissingProof(BaseModel):
    """What a promotion without `force` lacks today."""

    model: str | None = Field(description="the SLM that it speaks of: the certificate's")
    missing: list[str] = Field(description="figures that fall short; empty when nothing does")
    figures: dict[str, str] = Field(description="each with what it is, and what it would have to be")
    required: dict[str, float] = Field(description="`risk` and `confidence` that a certificate has to reach")


class ProposalShown(BaseModel):
    """The next step of an SLM that the evidence allows."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    stage: Stage
    share: float | None
    reason: str
    figures: dict[str, Any] = Field(description="what it rests on")


class EconomicsShown(BaseModel):
    """Whether training an SLM for a task pays, and what that is reckoned from."""

    model_config = ConfigDict(from_attributes=True)

    pays: bool | None = Field(description="at today's volume; None where nobody knows the LLM's price")
    break_even_calls_per_month: float | None = Field(
        description="from which on a month's calls pay for training and for that month's running; None: never"
    )
    calls_until_paid_back: int | None = Field(
        description="from now, until what was spent on it and not yet saved is back; None: never at today's volume"
    )
    calls_per_month: float = Field(description="of the task, on average over the log")
    llm_usd_per_call: float | None = Field(description="mean; None where no call's price is known")
    slm_usd_per_call: float = Field(description="by token: measured, or from the settings' prices")
    audit_share: float = Field(description="of the served calls, which the LLM answers too")
    saved_usd_per_call: float | None = Field(description="LLM − SLM − audit; below zero where the SLM is dearer")
    training_usd: float = Field(description="spent on it so far, or expected")
    training_is_expected: bool = Field(description="it was never trained: the mean of those that were")
    running_usd_per_month: float = Field(description="its part of an SLM server's rent")
    balance_usd: float = Field(description="its net savings so far")


class ClusterDetails(Cluster):
    """A discovered task, with what it was recognised by and what became of it."""

    skeleton: str
    examples: list[Any]
    promotions: list[PastPromotion] = Field(description="newest first")
    moves: list[StageMove] = Field(description="every step of every SLM between stages, newest first")
    certificates: list[CertificateShown] = Field(description="all, newest first")
    missing_proof: MissingProof
    proposal: ProposalShown | None = Field(
        description="what the evidence allows next; UNDERSTUDY_AUTOPILOT says what becomes of it"
    )
    training: str | None = Field(
        description="why an SLM should be trained for it; UNDERSTUDY_AUTOPILOT says what becomes of it"
    )
    feedback: list[OpinionShown] = Field(
        description="on calls that SLMs served, by SLM; those of which nothing was said are missing"
    )
    economics: EconomicsShown | None = Field(description="None where none of its calls is in the log")


class ServerShown(BaseModel):
    """What an SLM server says of itself."""

    up: bool
    models: list[dict[str, Any]] = []
    error: str | None = None


class Money(BaseModel):
    """What savings consist of."""

    counterfactual_usd: float = Field(description="what the LLM would have cost for the calls that SLMs served")
    slm_cost_usd: float = Field(description="what SLMs charged by token for answers that were served")
    gpu_usd: float = Field(description="the SLM servers' time since the first promotion, by who kept them busy")
    shadow_usd: float = Field(description="SLMs' answers to calls that the LLM served")
    audit_usd: float = Field(description="the LLM's answers to calls that SLMs served")
    wasted_usd: float = Field(description="SLMs' answers that were not served")
    training_usd: float = Field(description="training and evaluation")
    savings_usd: float = Field(description="the first, less all the others; negative where it did not pay")


class SavedOn(Money):
    """Sums over the calls of one cluster, model, agent or day (`key`; None for those that have none)."""

    key: str | None
    calls: int
    slm_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    mean_duration_ms: float | None
    unpriced: int


class Unattributed(Money):
    """What belongs to no row: the SLM servers' idle time, and training unless it is one cluster's and rows are too."""


class SavedInAll(Money):
    """The sums of all rows, and what belongs to none of them."""

    calls: int
    slm_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


class Savings(BaseModel):
    """Money, calls, tokens and latency; signed and net."""

    by: str
    data: list[SavedOn]
    unattributed: Unattributed
    total: SavedInAll
    unpriced_calls: int = Field(description="calls whose model has no known price; they are in no sum of money")


class WishedRun(BaseModel):
    """Body of a run."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    kind: RunKind = Field(
        description="`learn`: the log into tasks. `train`: a task's calls into an SLM with a certificate, passing or "
        "not. `evaluate`: an SLM that is there into a certificate. None of them promotes anything"
    )
    cluster: str | None = Field(None, description="the task; of `train` and `evaluate`")
    base: str | None = Field(
        None,
        description="base model to train on; by default what the SLM server says that it serves. `auto`: the cheapest "
        "of all that are served that is good enough, tried out; so it is where there are several servers and none is "
        "named",
    )
    method: Literal["lora", "qlora", "full"] = "lora"
    model: str | None = Field(
        None, min_length=1, description="of `evaluate`: the SLM; of `train`: what it is to be called"
    )
    slm: str | None = Field(
        None, description="server name in UNDERSTUDY_SLM_URL; with several, `evaluate` and a named `base` need it"
    )


class RunProgress(BaseModel):
    """How far a stage is."""

    text: str
    share: float | None = Field(None, description="done, in [0, 1]; None where it isn't known")
    seconds_left: float | None = None


class RunStage(BaseModel):
    """A stage that has come to its end."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    started_at: datetime | None
    ended_at: datetime | None
    figures: dict[str, Any] | None = Field(description="what it found; None where it failed")
    error: str | None


class RunShown(WishedRun):
    """A run."""

    model_config = ConfigDict(extra="ignore")

    id: str
    status: RunStatus
    asked_by: str = Field(description="`schedule` where nobody did")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    learner: str | None = Field(description="machine and data directory of the learner that has it")
    stage: str | None = Field(description="what it is at")
    progress: RunProgress | None
    record: str | None = Field(description="the end in words")
    error: str | None = Field(description="why it failed, in one line")

    @classmethod
    def of(cls, run: Run) -> Self:
        """A run as the API gives it."""
        return cls.model_validate(asdict(run) | asdict(run.wish))


class RunDetails(RunShown):
    """A run, with all that it has told."""

    stages: list[RunStage] = Field(description="those that have ended, in order; after a crash it goes on behind them")
    lines: list[str] = Field(description="the newest that its stages said, oldest first")
    figures: dict[str, Any] | None = Field(description="what each stage found, by its name; of a run that is done")


class KeyAsked(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="for people, and for the audit trail")
    role: Literal["viewer", "operator", "admin"] | None = Field(
        None, description="in the admin API; left out: the key is for calls only"
    )
    may_divert: bool = Field(True, description="whether an SLM may answer its calls")
    may_force: bool = Field(False, description="whether it may send `x-understudy-route: slm`")
    max_log: Literal["full", "redacted", "metadata", "off"] = Field(
        "full", description="how much of its calls is kept at most"
    )
    allows_training: bool = Field(True, description="whether its calls may become training samples")


class KeyShown(BaseModel):
    """A key, without what opens."""

    model_config = ConfigDict(from_attributes=True)

    key_id: str
    name: str
    role: str | None
    may_divert: bool
    may_force: bool
    max_log: str
    allows_training: bool
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None


class KeyMade(KeyShown):
    """A new key; it can't be shown again."""

    key: str = Field(description="goes into `Authorization: Bearer …`, or into `x-understudy-key`")


class FeedbackGiven(BaseModel):
    """How an answer turned out."""

    model_config = ConfigDict(extra="forbid")

    call_id: str = Field(description="as `x-understudy-call-id` said it")
    score: float = Field(
        strict=True,
        allow_inf_nan=False,
        ge=-1,
        le=1,
        description="from -1, wrong, over 0, neither, to 1, good; calls below 0 are not trained on",
    )
    comment: str | None = Field(
        None, max_length=4000, description="encrypted; kept as much of as of the call: none where the log has no bodies"
    )


class FeedbackShown(BaseModel):
    """What somebody said of an answer, as it is kept."""

    model_config = ConfigDict(from_attributes=True)

    actor: str
    score: float
    comment: str | None
    at: datetime


class OpinionShown(BaseModel):
    """How an SLM's answers were found. A call counts by the worst that was said of it; a score of 0 is neither."""

    model_config = ConfigDict(from_attributes=True)

    model: str
    good: int = Field(description="calls that it served, with a score above 0")
    poor: int = Field(description="below 0; evidence against its promotion, for somebody to judge")


class AuditEntry(BaseModel):
    """Who did what."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]


class ListOf(BaseModel, Generic[Item]):
    """A list, in the shape that OpenAI's have."""

    object: Literal["list"] = "list"
    data: list[Item]


class Models(ListOf[ModelEntry]):
    """Registered SLMs, and what each SLM server has."""

    servers: dict[str, ServerShown]


class Calls(ListOf[dict[str, Any]]):
    """A page of the log."""

    total: int = Field(description="calls in the log")
    next: str | None = Field(description="`before` of the following page; None on the last")


class RunsPage(ListOf[RunShown]):
    """A page of runs."""

    next: str | None = Field(description="`before` of the following page; None on the last")


class Deleted(BaseModel):
    """How many calls are gone."""

    deleted: int

"""What the router decides about a call, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.contract import OutputContract
    from router.promotion import Promotion


class Reason(StrEnum):
    """Why a call went where it went. Public: response header, metric label and log field."""

    MATCHED = "matched"
    CANARY_HELD_BACK = "canary_held_back"
    IN_DOUBT = "in_doubt"
    SHADOW_ONLY = "shadow_only"
    NO_SNAPSHOT = "no_snapshot"
    UNKNOWN_TASK = "unknown_task"
    PAYLOAD_OUT_OF_DISTRIBUTION = "payload_out_of_distribution"
    NOT_PROMOTED = "not_promoted"
    TOOL_LOOP_HELD = "tool_loop_held"
    STATEFUL_CALL = "stateful_call"
    UNSUPPORTED_FEATURE = "unsupported_feature"
    CONTEXT_TOO_LONG = "context_too_long"
    HEADER_OVERRIDE = "header_override"
    KEY_POLICY = "key_policy"
    SLM_UNAVAILABLE = "slm_unavailable"
    SLM_TIMEOUT = "slm_timeout"
    SLM_ERROR = "slm_error"
    OUTPUT_INVALID = "output_invalid"
    LOW_CONFIDENCE = "low_confidence"
    ROUTER_ERROR = "router_error"


@dataclass(frozen=True, slots=True)
class Decision:
    """The model choice for one call.

    Attributes:
        reason: why. `MATCHED` (or `HEADER_OVERRIDE` with a promotion) means: try the SLM; everything else: the LLM.
        promotion: which SLM to try; None means the LLM.
        contract: the form its answer must have.
        cluster_id: the matched cluster, also when it isn't served by an SLM.
        snapshot_id: the snapshot that recognised it.
        score: recognition score in [0, 1], for the log.
        payload_text: set when the payload check is unclear without the transformer encoder; the caller settles the
            decision off the event loop with `Router.settle` before acting on it.
    """

    reason: Reason
    promotion: Promotion | None = None
    contract: OutputContract | None = None
    cluster_id: str | None = None
    snapshot_id: str | None = None
    score: float = 0.0
    payload_text: str | None = None

    @property
    def to_slm(self) -> bool:
        """Whether an SLM is to be tried first."""
        return self.promotion is not None

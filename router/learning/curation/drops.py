"""Why a call is no training sample. Every call that is left out is counted under exactly one of these."""

from __future__ import annotations

from enum import StrEnum


class Drop(StrEnum):
    """In the order in which they are looked for; the first that applies counts."""

    NOT_KEPT = "not_kept"  # the log has no bodies of it, or they are not those of a chat
    SLM_SERVED = "slm_served"  # and never audited: nobody knows what the LLM would have answered
    FORBIDDEN_UPSTREAM = "forbidden_upstream"
    FORBIDDEN_KEY = "forbidden_key"
    BEFORE_CHANGE = "before_change"  # the LLM answers otherwise since
    INCOMPLETE = "incomplete"  # failed, cut, refused, stopped by a limit or a filter
    OLD_SCHEMA = "old_schema"

    POOR_FEEDBACK = "poor_feedback"
    BROKEN_CONTRACT = "broken_contract"
    UNRENDERABLE = "unrenderable"  # no chat template can show it: images, results of calls that nobody made
    REDACTED = "redacted"  # the log blacked out what the answer repeats
    MASKED_INVENTED = "masked_invented"  # the answer holds personal data that the request does not
    MASKED_AMBIGUOUS = "masked_ambiguous"  # the answer uses a part, or another spelling, of what is masked
    MASKED_BROKEN = "masked_broken"  # masked, the answer is no longer of its form
    DUPLICATE = "duplicate"
    CONTRADICTED = "contradicted"  # the same request mostly got another answer
    NEAR_DUPLICATE = "near_duplicate"
    ORIGIN_CAP = "origin_cap"
    SAMPLE_CAP = "sample_cap"


class Dropped(Exception):
    """This call is no sample.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.value)
        self.reason = reason

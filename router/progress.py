"""The next step of an SLM on a task, as far as what is proved allows it: values in, a proposal out.

    candidate --a certificate that holds--> shadow --50 conversations in its shadow--> canary, 10 % of the calls
        --50 more, audited or shadowed--> live

The certificate proves; shadow and canary look for what a certificate on the log can't see: an SLM that is served in
another way than it was evaluated, traffic that differs from the log. What they compare feeds the audit of the
promotion, which ends it when it breaks its promise, so that whoever is still there has gone without an alarm. 50
conversations notice, with a chance of 95 %, what happens in at least 6 % of them.

Nobody takes another's place by itself: while one SLM is in force, no other is proposed. Unless that one is back in the
shadow because its proof no longer holds, and another has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from router.promotion import Stage

#: Conversations compared in the shadow before a canary, and beside a canary before it is live.
ENOUGH_CONVERSATIONS = 50
CANARY_SHARE = 0.1


class Autopilot(StrEnum):
    """What happens to a proposal."""

    OFF = "off"
    """There are none."""
    PROPOSE = "propose"
    """The admin API shows it, and somebody decides."""
    ON = "on"
    """It is done."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an SLM has come on a task.

    Attributes:
        is_proved: a certificate holds today.
        has_news: what is proved is newer than its last step. Who retired an SLM does not want it back for the same
            reasons.
        is_forced: somebody put it there without proof, and decides how it goes on.
        has_lost_proof: it is back in the shadow since what was proved of it no longer holds.
        is_doubted: what it did of late speaks against it; it stays where it is until that is outweighed.
        conversations: compared since it came to its stage, of those that it served or would have.
        failures: how many of them disagree.
        coverage: share of the calls that it would serve, in [0, 1]; 0 where nothing is proved.
        figures: of the certificate.
    """

    model: str
    stage: Stage
    is_proved: bool
    has_news: bool = True
    is_forced: bool = False
    has_lost_proof: bool = False
    is_doubted: bool = False
    conversations: int = 0
    failures: int = 0
    coverage: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A step, and why.

    Attributes:
        share: of the calls; None where the stage says it.
        reason: in words.
        figures: what it rests on, by name.
    """

    model: str
    stage: Stage
    share: float | None
    reason: str
    figures: dict[str, Any]


def next_step(standings: Sequence[Standing]) -> Proposal | None:
    """What to do next on one task.

    Args:
        standings: of every SLM that was ever evaluated on it, or is in force.

    Returns:
        None when there is nothing to do, or not enough to do it on.
    """
    in_force = [one for one in standings if one.stage in (Stage.SHADOW, Stage.CANARY, Stage.LIVE)]
    if in_force and not (in_force[0].has_lost_proof and not in_force[0].is_proved):
        return _further(in_force[0])
    able = [one for one in standings if one.is_proved and one.has_news]
    if not able:
        return None
    best = max(able, key=lambda one: one.coverage)
    reason = f"a certificate proves it on held-out calls; it would serve {best.coverage:.0%} of them"
    return Proposal(best.model, Stage.SHADOW, None, reason, best.figures)


def _further(one: Standing) -> Proposal | None:
    """The next step of the SLM in force."""
    enough = one.conversations >= ENOUGH_CONVERSATIONS
    if one.is_forced or one.is_doubted or not one.is_proved or not enough or one.stage is Stage.LIVE:
        return None
    figures = one.figures | {"conversations": one.conversations, "conversations_failed": one.failures}
    compared = f"{one.conversations} conversations compared, {one.failures} of them disagree, no alarm"
    if one.stage is Stage.SHADOW:
        return Proposal(one.model, Stage.CANARY, CANARY_SHARE, f"in its shadow: {compared}", figures)
    return Proposal(one.model, Stage.LIVE, None, f"as a canary: {compared}", figures)

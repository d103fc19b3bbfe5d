"""What trains, what chooses the threshold, what certifies: by conversation and by time.

No conversation is on two sides, because its calls share the user, the documents, the mistake. And the later ones
certify: an SLM that is promoted today will serve tomorrow's calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Split(StrEnum):
    """What a conversation is used for."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    CERTIFICATION = "certification"


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of a cluster's conversations, in (0, 1); the rest trains.

    A certificate at 5 % and 95 % wants 59 conversations without a failure, so these shares need 240 in all.
    """

    calibration: float = 0.15
    certification: float = 0.25


def related(conversations: Sequence[str], sessions: Sequence[str]) -> list[str]:
    """Conversations, where what the client itself calls one session counts as one.

    Args:
        conversations: N names, as `router.learning.conversations` gives them.
        sessions: N tags of the client's, empty where there is none.

    Returns:
        N names, each that of the first conversation that it is related to.
    """
    first: dict[str, str] = {}

    def name_of(conversation: str) -> str:
        while (earlier := first.setdefault(conversation, conversation)) != conversation:
            conversation = earlier
        return conversation

    begun: dict[str, str] = {}
    for conversation, session in zip(conversations, sessions, strict=True):
        own = name_of(conversation)
        if session:
            first[own] = name_of(begun.setdefault(session, own))
    return [name_of(conversation) for conversation in conversations]


def split(conversations: Sequence[str], arrived_at: Sequence[datetime], shares: Shares | None = None) -> list[Split]:
    """Give each of N calls its side.

    Args:
        conversations: N, as `related` gives them.
        arrived_at: N; a conversation's time is that of its first call.
    """
    shares = shares or Shares()
    begun: dict[str, datetime] = {}
    for conversation, moment in zip(conversations, arrived_at, strict=True):
        begun[conversation] = min(moment, begun.get(conversation, moment))
    order = sorted(begun, key=lambda conversation: (begun[conversation], conversation))
    certify_from = len(order) - round(shares.certification * len(order))
    calibrate_from = certify_from - round(shares.calibration * len(order))
    side = {
        conversation: Split.CERTIFICATION
        if place >= certify_from
        else Split.CALIBRATION
        if place >= calibrate_from
        else Split.TRAIN
        for place, conversation in enumerate(order)
    }
    return [side[conversation] for conversation in conversations]

"""The conversations that early stopping looks at. They are the training part's own: calibration and certification are
not touched before the proof."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

#: With fewer conversations, each is worth more as an example.
MIN_CONVERSATIONS = 20


def validation_conversations(conversations: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Choose conversations.

    Args:
        conversations: of each sample; repeated where a conversation has several.
        share: of the conversations, in [0, 1).

    Returns:
        At least one, where there are enough; which ones is settled by their names and the seed.
    """
    known = sorted(set(conversations), key=lambda name: blake2b(f"{seed} {name}".encode(), digest_size=8).digest())
    if not share or len(known) < MIN_CONVERSATIONS:
        return frozenset()
    return frozenset(known[: max(1, round(share * len(known)))])

"""Which calls belong to one conversation, found without labels.

Agents send the whole history again with every turn, so all calls of a conversation begin with the same messages up to
the first assistant turn. Identical single-turn requests count as one conversation too: repeating a request is no
evidence that its text is a template.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from router.features import CallFeatures


def conversation_of(features: CallFeatures) -> str:
    """Name a call's conversation: a hash of its messages before the first assistant turn."""
    digest = blake2b(digest_size=8)
    for place, message in enumerate(features.messages):
        if message.role == "assistant" and place:
            break
        digest.update(message.role.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(message.text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def conversations_of(calls: Iterable[CallFeatures]) -> list[str]:
    """Name the conversation of each call."""
    return [conversation_of(call) for call in calls]

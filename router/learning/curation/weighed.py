"""How sure the LLM was of each token of an answer, where the call asked for it (`top_logprobs`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WeighedToken:
    """One token that the LLM said.

    Attributes:
        text: of the token.
        likely: what else it could have been, and itself: text and log-probability, in (-∞, 0].
    """

    text: str
    likely: tuple[tuple[str, float], ...]


def read_weighed(endpoint: str, answer: Mapping[str, Any]) -> tuple[WeighedToken, ...]:
    """The tokens of an answer's text.

    Args:
        endpoint: `chat` or `responses`.
        answer: a chat completion or a response, as one JSON value.

    Returns:
        Nothing where the answer doesn't say, or not in its endpoint's shape.
    """
    try:
        if endpoint == "chat":
            said = answer["choices"][0]["logprobs"]["content"]
        else:
            parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
            said = [token for part in parts for token in part["logprobs"]]
        return tuple(_token(token) for token in said)
    except (KeyError, TypeError, ValueError, IndexError):
        return ()


def _token(said: Mapping[str, Any]) -> WeighedToken:
    likely = {str(each["token"]): float(each["logprob"]) for each in (said, *said["top_logprobs"])}
    return WeighedToken(str(said["token"]), tuple(likely.items()))

"""What the LLM found likely, as a target for the student: distillation (Hinton et al., arXiv 1503.02531).

LLM and student cut texts into tokens of their own. Where a token of the one spans exactly the characters of a token of
the other, the LLM's alternatives that are single tokens of the student's too are what it should find likely, and how
much. Elsewhere, and for the token that ends the answer, the student learns what was said, as ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from router.learning.curation.weighed import WeighedToken


@dataclass(frozen=True, slots=True)
class SoftTarget:
    """What the token at a place should be.

    Attributes:
        place: in the answer's tokens.
        ids: (n,) of the student's vocabulary.
        probabilities: (n,) in (0, 1]; their sum is 1.
    """

    place: int
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]


def soft_targets(tokenizer: Any, answer: str, content: str, weighed: Sequence[WeighedToken]) -> list[SoftTarget]:
    """Align the LLM's tokens with the student's, by the characters that they span.

    Args:
        tokenizer: the student's; one that can't say which characters a token spans gives nothing.
        answer: as the student's template writes it.
        content: as the LLM said it.
    """
    begin = answer.find(content)
    if not weighed or begin < 0 or "".join(token.text for token in weighed) != content or not tokenizer.is_fast:
        return []
    said: dict[tuple[int, int], WeighedToken] = {}
    at = begin
    for token in weighed:
        said[at, at + len(token.text)] = token
        at += len(token.text)
    cut = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for place, (token_id, span) in enumerate(zip(cut["input_ids"], cut["offset_mapping"], strict=True)):
        target = _target(tokenizer, place, token_id, said[tuple(span)]) if tuple(span) in said else None
        if target is not None:
            found.append(target)
    return found


def _target(tokenizer: Any, place: int, token_id: int, token: WeighedToken) -> SoftTarget | None:
    """None where nothing but the token itself is known to the student."""
    weights = {token_id: math.exp(dict(token.likely)[token.text])}
    for text, log_probability in token.likely:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if text != token.text and len(ids) == 1 and tokenizer.decode(ids) == text:
            weights[ids[0]] = math.exp(log_probability)
    weights = {each: weight for each, weight in weights.items() if weight > 0}
    whole = sum(weights.values())
    if len(weights) < 2 or token_id not in weights:
        return None
    return SoftTarget(place, tuple(weights), tuple(weight / whole for weight in weights.values()))


def distilled_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    where: torch.Tensor,
    ids: torch.Tensor,
    probabilities: torch.Tensor,
    share: float,
) -> torch.Tensor:
    """(1 - share) · cross-entropy + share · Kullback-Leibler divergence where the LLM's distribution is known.

    Args:
        logits: (B, T, V).
        labels: (B, T); negative where nothing is to be learned.
        where: (M, 2) row and place in it of each alternative.
        ids: (M,) what it is.
        probabilities: (M,) how likely it should be.
        share: in [0, 1].

    Returns:
        () summed over all tokens that count.
    """
    counts = labels[:, 1:] >= 0
    log_q = logits[:, :-1][counts].float().log_softmax(-1)  # (N, V): only of what counts, for the memory
    hard = -log_q.gather(1, labels[:, 1:][counts][:, None])[:, 0]  # (N,)
    order = (counts.flatten().cumsum(0) - 1).view_as(counts)  # (B, T - 1): which of the N
    rows = order[where[:, 0], where[:, 1] - 1]  # (M,)
    known = torch.zeros_like(hard)
    known[rows] = 1.0
    divergence = probabilities * (probabilities.log() - log_q[rows, ids])
    return (hard * (1 - share * known)).sum() + share * divergence.sum()

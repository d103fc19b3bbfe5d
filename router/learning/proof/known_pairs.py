"""Pairs of texts whose truth is known by construction, from the task's own log: they measure a comparator's error.

They agree: a text and a *harmless rewrite*: one sentence a line, the first one in bold, other list marks, headings in
capitals, no last full stop. This is the easy kind: paraphrases are harder. So what a comparator rejects of them is
no credit to anybody's bound (`judge.py`).

They disagree, by kind, and only the kind that a comparator passes most often counts:

    other      the LLM's answer to another request, the nearest one first: as hard as the log has them
    sentence   the longest sentence replaced by one of that answer
    number     a number changed by one
    negation   a verb negated, or a negation dropped; English only
    name       a capitalised word within a sentence replaced by one of another answer

Two requests may deserve the same answer in other words, and an edit may hit what doesn't matter: such a pair counts as
an error that was none, which errs on the safe side. The LLM's answers to a repeated request are no pairs of known
truth: it may contradict itself, and how often it does is the certificate's ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import Answer
from router.learning.proof.agreement import plain

#: The kind of all pairs that agree.
HARMLESS = "harmless"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？])")
_NUMBER = re.compile(r"\d+")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
_NEGATED = re.compile(r"\b(is|are|was|were|can|could|will|would|has|have|do|does|did|should|may|must) not\b", re.I)
_VERB = re.compile(r"\b(is|are|was|were|can|could|will|would|has|should|may|must)\b(?! not\b|n't)", re.I)
_LIST_MARK = re.compile(r"^(\s*)[-*] ", re.M)
_HEADING = re.compile(r"^#+ .*$", re.M)


class KnownPair(NamedTuple):
    """Two answers of which it is known whether they agree, and of which kind they are."""

    reference: Answer
    answer: Answer
    agree: bool
    kind: str


def known_pairs(texts: Sequence[str], vectors: NDArray[np.float32]) -> list[KnownPair]:
    """Pairs from one answer of each of N conversations: at most one of every kind for each answer.

    Args:
        texts: the LLM's answers.
        vectors: (N, D), rows of unit norm; what is near is taken to be hard to tell apart.
    """
    pairs: list[KnownPair] = []
    paired: set[frozenset[str]] = set()
    likeness = vectors @ vectors.T
    same = [plain(text) for text in texts]
    for here, text in enumerate(texts):
        pairs.append(_pair(text, harmless(text), HARMLESS))
        nearest = np.argsort(-likeness[here], kind="stable")
        unlike = (int(k) for k in nearest if same[k] != same[here] and frozenset((same[here], same[k])) not in paired)
        other = ""
        if (there := next(unlike, None)) is not None:
            paired.add(frozenset((same[here], same[there])))
            other = texts[there]
            pairs.append(_pair(text, other, "other"))
        edits = {
            "sentence": _other_sentence(text, other),
            "number": _NUMBER.sub(lambda found: str(int(found[0][-9:]) + 1), text, count=1),
            "negation": _negated(text),
            "name": _other_name(text, texts),
        }
        pairs += [_pair(text, edit, kind) for kind, edit in edits.items() if plain(edit) != same[here]]
    return pairs


def harmless(text: str) -> str:
    """The same said in another form."""
    if _HEADING.search(text) or _LIST_MARK.search(text):
        return _HEADING.sub(lambda found: found[0].upper(), _LIST_MARK.sub(r"\1• ", text))
    first, *others = [sentence for sentence in _SENTENCE.split(text.strip()) if sentence.strip()] or [text]
    return "\n".join([f"**{first}**", *others]).removesuffix(".")


def _pair(text: str, other: str, kind: str) -> KnownPair:
    return KnownPair(Answer(text), Answer(other), kind == HARMLESS, kind)


def _other_sentence(text: str, other: str) -> str:
    mine, theirs = max(_SENTENCE.split(text), key=len), max(_SENTENCE.split(other), key=len)
    return text.replace(mine, theirs, 1) if mine and theirs and mine != text else text


def _negated(text: str) -> str:
    edit, count = _NEGATED.subn(r"\1", text, count=1)
    return edit if count else _VERB.sub(r"\1 not", text, count=1)


def _other_name(text: str, texts: Sequence[str]) -> str:
    found = _NAME.search(text)
    if found is None:
        return text
    start = len(text) % len(texts)  # not the same one everywhere
    names = (name for other in [*texts[start:], *texts[:start]] for name in _NAME.findall(other))
    name = next((name for name in names if name not in text), found[0])
    return re.sub(rf"\b{re.escape(found[0])}\b", name, text)

"""Free text: compared by embedding, or by a judge. Neither is the truth: `judge.py` measures and corrects for that."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from router.contract import Answer
from router.encoder import Encoder
from router.learning.proof.agreement import Outcome, Verdict

#: Says whether (reference, answer) mean the same; None when it can't say: out of reach, refused, undecided.
Judgement = Callable[[Answer, Answer], bool | None]

#: Encoders read only the start of a text (`router.encoder`), and one vector of a long text drowns what a sentence says.
_PIECE_CHARS = 240
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+|\n+|(?<=[。！？；])")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")


class EmbeddedText:
    """Texts agree when each sentence of either is close to one of the other, and both name the same numbers.

    Close is not the same: "enable" and "disable" are closer than many paraphrases. A certificate by this comparator
    bounds the share of answers that are not close, unless the comparator's error was measured and is handed in as well.
    """

    def __init__(self, encoder: Encoder, least_cosine: float) -> None:
        """Take the encoder, and the cosine in [-1, 1] from which sentences are close."""
        self._encoder = encoder
        self._least = least_cosine

    @property
    def name(self) -> str:
        """What the certificate calls it."""
        return f"text: numbers, and sentences at cosine ≥ {self._least:g} by {self._encoder.name}"

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare the texts; equal ones are not encoded."""
        trivial = _trivial(reference, answer)
        if trivial is not None:
            return trivial
        if set(_NUMBER.findall(reference.text)) != set(_NUMBER.findall(answer.text)):
            return Verdict(Outcome.DISAGREE, "other numbers")
        left, right = pieces(reference.text), pieces(answer.text)
        vectors = self._encoder.encode([*left, *right])
        cosines = vectors[: len(left)] @ vectors[len(left) :].T
        if not np.isfinite(cosines).all():
            return Verdict(Outcome.INCOMPARABLE, "the encoder gave no number")
        farthest = float(min(cosines.max(axis=1).min(), cosines.max(axis=0).min()))
        agree = farthest >= self._least
        return Verdict(Outcome.AGREE if agree else Outcome.DISAGREE, f"farthest sentence at cosine {farthest:.3f}")


class JudgedText:
    """Texts agree when a judge says so."""

    def __init__(self, name: str, judge: Judgement) -> None:
        """Take the judge, and the name under which its error was measured: model and prompt."""
        self._name = name
        self._judge = judge

    @property
    def name(self) -> str:
        """What the certificate calls it."""
        return f"text: judged by {self._name}"

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Ask the judge; equal texts need none."""
        trivial = _trivial(reference, answer)
        if trivial is not None:
            return trivial
        match self._judge(reference, answer):
            case None:
                return Verdict(Outcome.INCOMPARABLE, "the judge did not say")
            case True:
                return Verdict(Outcome.AGREE, "the judge sees no difference")
            case _:
                return Verdict(Outcome.DISAGREE, "the judge sees a difference")


def pieces(text: str) -> list[str]:
    """A text's sentences, each cut into pieces of at most 240 characters; all of its words are in one of them."""
    found = []
    for sentence in _SENTENCE.split(text):
        rest = " ".join(sentence.split())
        while len(rest) > _PIECE_CHARS:
            space = rest.rfind(" ", 1, _PIECE_CHARS + 1)
            cut = space if space > 0 else _PIECE_CHARS
            found.append(rest[:cut])
            rest = rest[cut:].lstrip()
        if rest:
            found.append(rest)
    return found


def _trivial(reference: Answer, answer: Answer) -> Verdict | None:
    left, right = " ".join(reference.text.split()), " ".join(answer.text.split())
    if not left:
        return Verdict(Outcome.INCOMPARABLE, "the reference is empty")
    if not right:
        return Verdict(Outcome.DISAGREE, "the answer is empty")
    return Verdict(Outcome.AGREE, "texts equal") if left == right else None

"""Free text: what closeness sees, and what it must not be trusted to see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from router.contract import Answer
from router.learning.proof.agreement import Outcome
from router.learning.proof.text import EmbeddedText, JudgedText, pieces


class WordCounts:
    """An encoder of hashed words, blind after 240 characters, as sentence encoders are blind after their window."""

    name = "words"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, 256)."""
        counts = np.zeros((len(texts), 256), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text[:240].lower()) or ["nothing"]:
                counts[row, crc32(word.encode()) % 256] += 1
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class NoNumbers:
    """An encoder whose weights are broken."""

    name = "broken"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, 2)."""
        return np.full((len(texts), 2), np.nan, dtype=np.float32)


def outcome(left: str, right: str, least: float = 0.8) -> Outcome:
    return EmbeddedText(WordCounts(), least).compare(Answer(left), Answer(right)).outcome


def test_the_same_words_in_another_order_are_close() -> None:
    assert outcome("The parcel is late. We are sorry.", "We are sorry. The parcel, late, it is.") is Outcome.AGREE


def test_one_sentence_that_has_no_counterpart_disagrees_however_long_the_rest() -> None:
    same = "Your order has been shipped and will arrive soon. " * 20
    assert outcome(same + "Thank you.", same + "Thank you. Please wire the fee to this account.") is Outcome.DISAGREE
    assert outcome(same + "Thank you. Please wire the fee to this account.", same + "Thank you.") is Outcome.DISAGREE


def test_other_numbers_disagree_however_close_the_words() -> None:
    assert outcome("The refund of the order is $50.", "The refund of the order is $500.", least=0.1) is Outcome.DISAGREE
    assert outcome("Due on 2026-01-02 at 10:30.", "It is due at 10:30 on 2026-01-02.", least=0.3) is Outcome.AGREE


def test_equal_texts_need_no_encoder() -> None:
    comparator = EmbeddedText(NoNumbers(), 0.9)
    assert comparator.compare(Answer("a  b\n"), Answer("a b")).outcome is Outcome.AGREE
    assert comparator.compare(Answer("a b"), Answer("b a")).outcome is Outcome.INCOMPARABLE


@pytest.mark.parametrize("comparator", [EmbeddedText(WordCounts(), 0.5), JudgedText("any", lambda left, right: True)])
def test_an_empty_answer_agrees_with_nothing(comparator: EmbeddedText | JudgedText) -> None:
    assert comparator.compare(Answer("Hello"), Answer(" ")).outcome is Outcome.DISAGREE
    assert comparator.compare(Answer(" "), Answer("Hello")).outcome is Outcome.INCOMPARABLE


@pytest.mark.parametrize(
    ("says", "expected"), [(True, Outcome.AGREE), (False, Outcome.DISAGREE), (None, Outcome.INCOMPARABLE)]
)
def test_a_judge_is_taken_at_its_word(says: bool | None, expected: Outcome) -> None:
    assert JudgedText("j", lambda left, right: says).compare(Answer("a"), Answer("b")).outcome is expected


@given(st.text(max_size=2000))
def test_no_word_is_lost_between_the_pieces_and_none_is_too_long_for_an_encoder(text: str) -> None:
    found = pieces(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= 240 for piece in found)


@given(st.text(alphabet="ab .!\n1", max_size=60), st.text(alphabet="ab .!\n1", max_size=60))
def test_closeness_is_symmetric(left: str, right: str) -> None:
    if left.strip() and right.strip():
        assert outcome(left, right) == outcome(right, left)

"""The LLM's agreement with itself."""

from __future__ import annotations

from router.certificate import SelfAgreement
from router.contract import Answer
from router.learning.proof.agreement import Json, Label
from router.learning.proof.ceiling import self_agreement


def answers(*texts: str) -> list[Answer]:
    return [Answer(text) for text in texts]


def test_each_request_counts_once_however_often_it_was_repeated() -> None:
    repeats = [answers("a", "a"), answers("a", "b", "b", "b", "b"), answers("b", "b", "a"), answers("a"), []]
    assert self_agreement(repeats, Label(("a", "b"))) == SelfAgreement(pairs=3, disagreements=1)


def test_a_pair_that_can_not_be_compared_either_way_is_left_out() -> None:
    repeats = [answers("{}", "{"), answers("{", "{}"), answers("{}", " {} ")]
    assert self_agreement(repeats, Json()) == SelfAgreement(pairs=1, disagreements=0)

"""Each is said once; what differs in what matters stays."""

from __future__ import annotations

import random

from router.learning.curation.chat import ChatMessage
from router.learning.curation.drops import Drop
from router.learning.curation.duplicates import repeated

TEMPLATE = " ".join(f"Rule {number}: never do what rule {number + 1} forbids." for number in range(60))
WORDS = [f"word{number}" for number in range(2000)]


def talk(payload: str, answer: str) -> list[ChatMessage]:
    return [
        {"role": "user", "content": f"{TEMPLATE}\n{payload}\nNow answer."},
        {"role": "assistant", "content": answer},
    ]


def letter(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def test_of_exact_copies_the_newest_stays() -> None:
    assert repeated([talk("a", "x"), talk("b", "x"), talk("a", "x")]) == {0: Drop.DUPLICATE}


def test_of_contradicting_answers_the_commonest_stays() -> None:
    chats = [talk("a", "x"), talk("a", "x"), talk("a", "y")]
    assert repeated(chats) == {0: Drop.DUPLICATE, 2: Drop.CONTRADICTED}


def test_letters_that_differ_in_a_word_are_near_duplicates() -> None:
    chats = [talk(letter(seed), "x") for seed in range(20)]
    chats.append(talk(letter(3).replace(letter(3).split()[50], "else", 1), "x"))
    assert repeated(chats) == {3: Drop.NEAR_DUPLICATE}


def test_a_shared_template_makes_no_near_duplicates() -> None:
    assert repeated([talk(letter(seed, 30), "x") for seed in range(40)]) == {}


def test_nearly_the_same_request_with_another_answer_stays() -> None:
    chats = [talk(letter(seed), "refuse") for seed in range(20)]
    chats.append(talk(letter(3).replace(letter(3).split()[50], "else", 1), "accept"))
    assert repeated(chats) == {}


def test_turns_of_one_conversation_stay() -> None:
    history = talk(letter(1), "first")
    chats = [talk(letter(seed), "x") for seed in range(2, 12)] + [history]
    for turn in range(8):
        history = [
            *history,
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": letter(100 + turn, 5)},
        ]
        chats.append(history)
    assert repeated(chats) == {}

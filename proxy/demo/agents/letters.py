"""Two agents with open-ended tasks: no answer is the right one, and the LLM never says the same twice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from proxy.demo.agents.calls import Assignment, chat_call

LETTERS = (
    "You write the letters of an online shop.\n"
    "Answer the customer's words of praise or blame warmly, in three sentences, each time in a way of your own."
)
SLOGANS = (
    "You invent slogans for the shop window.\n"
    "For the article that you are given, propose one that nobody has used yet, with a reason."
)
_ARTICLES = ("lamp", "kettle", "chair", "jacket", "camera", "desk", "backpack", "radio", "tent", "watch", "guitar")
_WHO = ("a teacher", "a nurse", "our neighbours", "a night owl", "two students", "a grandfather", "the whole street")
_OPENINGS = (
    "How kind of you to write",
    "Your words made our week",
    "We read your note twice",
    "Thank you for the {it}",
)
_MIDDLES = (
    "the {it} has found the right home", "somebody here still sings about the {it}", "a {it} is as good as its use",
    "we shall tell the people who pack each {it}", "next time the {it} will do better", "one {it}, so many stories",
)  # fmt: skip
_ENDS = ("Come by when you like", "We wish you a bright spring", "Yours, with a smile", "Write again", "Until soon")


def letters(seed: int) -> Iterator[Assignment]:
    """Calls of the agent that writes letters, endless."""
    rng = random.Random(seed)
    while True:
        article, who = rng.choice(_ARTICLES), rng.choice(_WHO)
        blame = rng.choice(("came late", "shines", "is loud", "lasts", "was a present", "looks tired"))
        text = f"Customer {rng.randrange(1000, 9999)}: the {article} that {who} got from you {blame}."
        yield Assignment(chat_call(LETTERS, text, temperature=1, max_tokens=200), _prose(rng, article, 3))


def slogans(seed: int) -> Iterator[Assignment]:
    """Calls of the agent that wants slogans, endless."""
    rng = random.Random(seed)
    while True:
        article, who = rng.choice(_ARTICLES), rng.choice(_WHO)
        text = f"Article {rng.randrange(1000, 9999)}: {article}, loved by {who}."
        yield Assignment(chat_call(SLOGANS, text, temperature=1, max_tokens=200), _prose(rng, article, 2))


def _prose(rng: random.Random, it: str, middles: int) -> str:
    parts: Sequence[str] = [rng.choice(_OPENINGS), *rng.sample(_MIDDLES, middles), rng.choice(_ENDS)]
    return " ".join(part.format(it=it).capitalize() + rng.choice(".!") for part in parts)

"""Recognition as a worker lives with it."""

from __future__ import annotations

import random
import tracemalloc

from router.features import read_chat
from router.recognition import Profile, Profiles

MIB = 2**20


def test_long_messages_that_never_come_again_do_not_pile_up() -> None:
    profiles = Profiles(
        [Profile(0, {"h You are a clerk": 30.0, "File the letter.": 4.0}, 0.0, 50.0, ["File the letter."])]
    )
    rng = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(400)]
    tracemalloc.start()
    for number in range(600):
        letter = "\n".join(rng.choices(lines, k=1200))
        messages = [
            {"role": "system", "content": f"You are a clerk.\nFile the letter.\nIt has the number {number}."},
            {"role": "user", "content": f"{number}\n{letter}"},
        ]
        profiles.recognise(read_chat({"model": "gpt-4o", "messages": messages}))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 48 * MIB

# ruff: noqa: SIM905 - lists of words read better as text
"""Task discovery against gold labels. `python tests/bench/discovery.py [PERTURBATION…]`.

All 3,888 recorded agent calls are learned together, without labels, and scored on the 31 labels that have 20 calls or
more and don't name a test: adjusted Rand index and homogeneity of what was learned, index of what is recognised when
the same calls come again. Perturbed copies show what simple methods hide:

    head     a line about the user before the prompt, another one in each conversation
    inline   a name inside the prompt's first sentence
    drift    half of the conversations have a fifth of the prompt's lines reworded
    scen     one of 40 four-sentence scenarios after the first line
    docs     one of 20 shared documents at the end of the first user message
"""

from __future__ import annotations

import random
import re
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from sklearn.metrics import adjusted_rand_score, homogeneity_score

from proxy.replay.recordings import lines
from router.features import CallFeatures, read_chat
from router.learning.conversations import conversations_of
from router.learning.skeletons import learn_skeletons

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "agent_calls.jsonl.gz"
KINDS = ("plain", "head", "inline", "drift", "scen", "docs")
MIN_CALLS = 20
FIRST = "Maria John Wei Fatima Olaf Ana Ivan Sara Tom Yuki Lena Omar Nina Paul Eva Jose Mia Ravi Zoe Liam".split()
LAST = "Lopez Smith Chen Khan Berg Silva Petrov Cohen Baker Mori Roth Said Popa Roy Novak Kim Diaz Patel Jones".split()
FIRMS = "Acme Globex Initech Umbrella Hooli Stark Wayne Soylent Vehement Massive".split()
COLOURS = (
    "red blue green black white grey brown pink gold silver amber coral ivory lime navy olive plum rose ruby sand teal "
    "wine mint jade rust onyx opal pearl slate topaz iron zinc lead tin steel brass copper cobalt nickel chrome"
).split()
DEEDS = ("visits the harbour", "repairs an engine", "orders new parts", "calls the office", "reads a long report")
_FIRST_SENTENCE = re.compile(r"[.!?:](?=\s|$)|\n|$")


def scenario(number: int) -> str:
    """Four sentences."""
    rng = random.Random(number)
    frames = ("The {} team often {} in spring.", "Customer {} never {} before noon.",
              "A {} clerk sometimes {} with care.", "Our {} partner always {} on Monday.")  # fmt: skip
    return " ".join(frame.format(COLOURS[number], rng.choice(DEEDS)) for frame in frames)


def document(number: int) -> str:
    """Fifteen lines."""
    rng = random.Random(number)
    topics, goods = ("terms", "prices", "dates", "places", "people"), ("goods", "services", "returns", "claims")
    return "\n".join(
        f"Section {k} of document {number}: {rng.choice(topics)} clause {rng.choice(COLOURS)} applies to "
        f"{rng.choice(goods)} in region {rng.choice(COLOURS)}."
        for k in range(15)
    )


SCENARIOS = [scenario(number) for number in range(len(COLOURS))]
DOCUMENTS = [document(number) for number in range(20)]


def changed(kind: str, text: str, rng: random.Random) -> str:
    """A prompt with its perturbation; `docs` is not for prompts."""
    person = f"{rng.choice(FIRST)} {rng.choice(LAST)} of {rng.choice(FIRMS)}"
    if kind == "head":
        return f"User {person} (customer no. {rng.randrange(10000, 99999)}) is signed in.\n{text}"
    if kind == "inline":
        found = _FIRST_SENTENCE.search(text, 1)
        end = found.start() if found else len(text)
        return f"{text[:end]} for {person}{text[end:]}"
    if kind == "scen":
        first, _, rest = text.partition("\n")
        return f"{first}\n{rng.choice(SCENARIOS)}\n{rest}"
    if rng.random() < 0.5:
        return text
    return "\n".join(
        reworded(line) if place and zlib.crc32(line.encode()) % 5 == 0 else line
        for place, line in enumerate(text.split("\n"))
    )


def reworded(line: str) -> str:
    """The same words, always in the same other order."""
    words = line.split(" ")
    random.Random(line).shuffle(words)
    return " ".join(words)


def perturbed(kind: str, request: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A request with its perturbation."""
    messages = [dict(message) for message in request["messages"]]
    texts = [message for message in messages if isinstance(message.get("content"), str)]
    users = [message for message in texts if message.get("role") == "user"]
    prompts = [message for message in texts if message.get("role") in ("system", "developer")] or users
    if kind == "docs" and users:
        users[0]["content"] += "\n" + rng.choice(DOCUMENTS)
    elif kind not in ("docs", "plain") and prompts:
        prompts[0]["content"] = changed(kind, prompts[0]["content"], rng)
    return request | {"messages": messages}


@dataclass(frozen=True)
class Scores:
    """How well the labels were found; `recognised` when the same calls come again."""

    index: float
    homogeneity: float
    recognised: float
    tasks: int
    seconds: float


class Recorded:
    """The recorded calls with their labels."""

    def __init__(self, path: Path) -> None:
        self.rows = [orjson.loads(line) for _, line in lines(path)]
        labels = [(row["agent"], row["task_hint"]) for row in self.rows]
        counts = Counter(hint for _, hint in labels)
        names = sorted({
            label for label in labels
            if counts[label[1]] >= MIN_CALLS and not label[1].startswith("test:") and label[1] != "unknown"
        })  # fmt: skip
        self.scored = np.array([place for place, label in enumerate(labels) if label in set(names)])
        self.gold = [names.index(labels[place]) for place in self.scored]
        self.conversations = conversations_of([read_chat(row["request"]) for row in self.rows])

    def measure(self, kind: str) -> Scores:
        """Learn a copy of them all, and compare with the labels."""
        calls: list[CallFeatures] = [
            read_chat(perturbed(kind, row["request"], random.Random(kind + conversation)))
            for row, conversation in zip(self.rows, self.conversations, strict=True)
        ]
        began = time.perf_counter()
        skeletons = learn_skeletons(calls, conversations_of(calls))
        took = time.perf_counter() - began
        found = [skeletons.profiles.recognise(call).task for call in calls]
        learned = apart(skeletons.assignments)[self.scored]
        again = apart(np.array([-1 if task is None else task for task in found]))[self.scored]
        return Scores(
            float(adjusted_rand_score(self.gold, learned)),
            float(homogeneity_score(self.gold, learned)),
            float(adjusted_rand_score(self.gold, again)),
            int(skeletons.assignments.max()) + 1,
            took,
        )


def main(kinds: list[str]) -> None:
    """Print the table."""
    if not DATA.exists():
        print(f"not measured: no recorded calls at {DATA}")
        return
    recorded = Recorded(DATA)
    print("| copy | index | homogeneity | index, recognised | tasks | learning, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in kinds:
        found = recorded.measure(kind)
        print(
            f"| {kind} | {found.index:.3f} | {found.homogeneity:.3f} | {found.recognised:.3f} | {found.tasks} | "
            f"{found.seconds:.1f} |",
            flush=True,
        )


def apart(assignments: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Each call without a task as a task of its own: not to know is not to agree."""
    return np.where(assignments < 0, 10**6 + np.arange(len(assignments)), assignments)


if __name__ == "__main__":
    main(sys.argv[1:] or list(KINDS))

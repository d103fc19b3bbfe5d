"""Recognition, seen from outside. `python tests/bench/recognition.py [ENCODER]`.

unknown agents    leave one agent out, learn the calls of all others, promote every task: how many of the unknown
                  agent's calls would an SLM be given? Agents with 20 calls or more.
identities        learn five sixths of the conversations, then all of them: how many tasks keep their ids?
100,000 calls     the recorded calls over and over, another line about the user in each conversation: time of the
                  structure level, and what memory grows by beside the calls themselves
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from router.encoder import TransformerEncoder
from router.engine import Router
from router.features import CallFeatures, read_chat
from router.learning.conversations import conversations_of
from router.learning.corpus import LoggedCall, read_logged_call
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.learning.skeletons import learn_skeletons
from router.promotion import Promotion, Stage
from router.snapshot import Snapshot
from tests.bench.discovery import DATA, MIN_CALLS, Recorded, perturbed
from tests.bench.payload import default_encoder

MANY = 100_000


class Remembering(TransformerEncoder):
    """Reads each text once: the runs share most of their calls."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._rows: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TransformerEncoder.encode`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._rows |= dict(zip(new, super().encode(new), strict=True))
        return np.stack([self._rows[text] for text in texts])


def all_live(snapshot: Snapshot, encoder: TransformerEncoder) -> Router:
    """A router for which every task is promoted."""
    promotions = {each: Promotion(each, "slm", Stage.LIVE, 1.0, "local", None, 1 << 20) for each in snapshot.clusters}
    return Router(snapshot, promotions, encoder)


def unknown_agents(recorded: Recorded, calls: list[LoggedCall], source: str) -> None:
    """Print what would be served of agents that were never seen."""
    encoder, static = Remembering(source), distill(source)
    agents = [row["agent"] for row in recorded.rows]
    served_of_all = of_all = 0
    print("| unknown agent | calls | given to an SLM |\n| --- | ---: | ---: |")
    for agent, count in Counter(agents).most_common():
        if count < MIN_CALLS:
            break
        seen = [call for call, name in zip(calls, agents, strict=True) if name != agent]
        router = all_live(discover(seen, static=static, encoder=encoder).snapshot, encoder)
        unseen = [call for call, name in zip(calls, agents, strict=True) if name == agent]
        served = sum(router.settle(router.decide(call.features)).promotion is not None for call in unseen)
        served_of_all, of_all = served_of_all + served, of_all + count
        print(f"| {agent} | {count} | {served} |", flush=True)
    print(f"| all | {of_all} | {served_of_all} ({served_of_all / of_all:.1%}) |\n")


def identities(recorded: Recorded, calls: list[LoggedCall]) -> None:
    """Print how many tasks keep their names."""
    names = sorted(set(recorded.conversations))
    random.Random(0).shuffle(names)
    first = set(names[: len(names) * 5 // 6])
    before = discover([c for c, name in zip(calls, recorded.conversations, strict=True) if name in first]).snapshot
    after = discover(calls, before).snapshot
    kept = set(before.clusters) & set(after.clusters)
    share = sum(before.clusters[each].calls for each in kept) / sum(each.calls for each in before.clusters.values())
    print(f"learned again with 20 % more calls, {len(kept)} of {len(before.clusters)} tasks kept their id, with")
    print(f"{share:.1%} of the calls\n")


def many(recorded: Recorded) -> None:
    """Print the time to learn 100,000 calls."""
    calls: list[CallFeatures] = []
    for turn in range(MANY // len(recorded.rows) + 1):
        for row, conversation in zip(recorded.rows, recorded.conversations, strict=True):
            calls.append(read_chat(perturbed("head", row["request"], random.Random(f"{turn}{conversation}"))))
    calls = calls[:MANY]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = learn_skeletons(calls, conversations_of(calls))
    took = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    unknown = float((found.assignments < 0).mean())
    print(f"{MANY:,} calls: {took:.0f} s, {grown:,.0f} MiB beside them, {unknown:.1%} of no task")


def main() -> None:
    """Print the tables."""
    if not DATA.exists():
        print(f"not measured: no recorded calls at {DATA}")
        return
    recorded = Recorded(DATA)
    read = [
        read_logged_call(str(place), "chat", orjson.dumps(row["request"]), row.get("response"))
        for place, row in enumerate(recorded.rows)
    ]
    calls = [call for call in read if call is not None]
    unknown_agents(recorded, calls, sys.argv[1] if len(sys.argv) > 1 else default_encoder())
    identities(recorded, calls)
    many(recorded)


if __name__ == "__main__":
    main()

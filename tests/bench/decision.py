"""Time of a decision. `python tests/bench/decision.py [ENCODER]`.

Calls of two narrow tasks at 2 KB, in one thread, each with a payload that was never seen; *known skeleton* means that
the system prompt has been seen before, as it has in all but the first call of an agent. Features are read beforehand:
parsing is the relay's.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from router.contract import Answer
from router.decision import Decision, Reason
from router.encoder import TransformerEncoder
from router.engine import Router
from router.features import CallFeatures, read_chat
from router.learning.corpus import LoggedCall
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.promotion import Promotion, Stage
from router.recognition import recognise
from tests.bench.payload import default_encoder

SYSTEM = {
    "triage": "You are the triage desk of an online shop.\nDecide which team has to answer the customer's message.\n"
    + "\n".join(f"Rule {name}: messages about {name} go to the {name} team, whatever else they say."
                for name in ("billing", "shipping", "returns", "technical", "press", "partners", "privacy", "safety")),
    "orders": "You are an order clerk.\nExtract the item, the quantity and the city from the request.\n"
    + "\n".join(f"Field {name}: take the {name} from the text as it stands, or null where there is none."
                for name in ("item", "quantity", "city", "street", "deadline", "colour", "size", "voucher")),
}  # fmt: skip
WORDS = [*SYSTEM["triage"].split(), *SYSTEM["orders"].split(), "parcel", "lamp", "late", "Berlin", "urgent", "again"]


def call(task: str, seed: int, words: int = 120) -> CallFeatures:
    """One call of a task, about 2 KB."""
    rng = random.Random(f"{task}{seed}")
    text = " ".join(rng.choice(WORDS) for _ in range(words))
    messages = [{"role": "system", "content": SYSTEM[task]}, {"role": "user", "content": text}]
    return read_chat({"model": "gpt-4o", "messages": messages, "temperature": 0})


def show(name: str, decide: Callable[[CallFeatures], object], calls: Sequence[CallFeatures]) -> None:
    """Print p50 and p99 in microseconds."""
    times = []
    for features in calls:
        began = time.perf_counter_ns()
        decide(features)
        times.append((time.perf_counter_ns() - began) / 1000)
    print(f"| {name} | {np.percentile(times, 50):,.0f} | {np.percentile(times, 99):,.0f} |")


def main() -> None:
    """Print the table."""
    source = sys.argv[1] if len(sys.argv) > 1 else default_encoder()
    static, encoder = distill(source), TransformerEncoder(source)
    logged = [
        LoggedCall(f"{task}{seed}", call(task, seed), Answer(f"answer {seed % 3}"))
        for task in SYSTEM
        for seed in range(150)
    ]
    plain = discover(logged).snapshot
    checked = discover(logged, plain, static=static, encoder=encoder).snapshot
    promotions = {each: Promotion(each, "slm", Stage.LIVE, 1.0, "local", None, 4096) for each in plain.clusters}
    fresh = iter(range(1000, 10**9))

    def calls(count: int, words: int = 120) -> list[CallFeatures]:
        return [call(random.choice(list(SYSTEM)), next(fresh), words) for _ in range(count)]

    router = Router(plain, promotions)
    held = Router(plain, {})
    with_payload = Router(checked, promotions, encoder)
    cluster_id = next(iter(checked.clusters))
    unclear = Decision(Reason.MATCHED, promotions[cluster_id], None, cluster_id, checked.snapshot_id, 1.0)

    def settle(features: CallFeatures) -> Decision:
        text = features.messages[-1].text
        return with_payload.settle(replace(unclear, payload_text=text))

    for warm in calls(50):
        for each in (router, held, with_payload):
            each.decide(warm)
    settle(calls(1)[0])
    repeated = calls(1) * 2000
    print("| decision | p50 µs | p99 µs |\n| --- | --: | --: |")
    show("recognition alone, new payload", lambda features: recognise(plain.profiles, features), calls(2000))
    show("known skeleton, not promoted", held.decide, calls(2000))
    show("known skeleton, promoted, no payload level", router.decide, calls(2000))
    show("the same, the same call again", router.decide, repeated)
    show("with the static encoder", with_payload.decide, calls(2000))
    show("the same, the same call again", with_payload.decide, repeated)
    show("settled by the transformer, short payload (12 words)", settle, calls(200, 12))
    show("settled by the transformer, long payload (120 words)", settle, calls(200))


if __name__ == "__main__":
    main()

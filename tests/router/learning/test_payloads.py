"""The payload level, learned: thin skeletons are split where the payloads are really several tasks, and only there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from router.encoder import StaticEncoder, TransformerEncoder
from router.learning.payloads import Payloads, fit_payloads, split
from router.payload import cascade

DATA = Path(__file__).parents[4] / "shared" / "data" / "clinc150_train_val.jsonl.gz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="CLINC150 is not beside the repository")
#: Of all sorts.
OTHERS = (
    "volcano eruption", "baroque cello suite", "tax return", "penguin colony", "carburettor", "sonnet", "mitochondria",
    "offside rule", "sourdough", "black hole", "guillotine", "crochet pattern", "tectonic plate", "zero-day exploit",
)  # fmt: skip
INTENTS = ("balance", "alarm", "translate", "weather", "recipe", "flight_status")


@pytest.fixture(scope="module")
def clinc() -> dict[str, list[str]]:
    """Intent → texts."""
    texts: dict[str, list[str]] = {}
    with gzip.open(DATA, "rt") as lines:
        for row in map(json.loads, lines):
            texts.setdefault(row["intent"], []).append(row["text"])
    return texts


def own(texts: list[str]) -> list[str]:
    """Each text is a conversation of its own."""
    return [str(place) for place in range(len(texts))]


@needs_data
def test_a_mixture_of_tasks_is_split(clinc: dict[str, list[str]], encoder: TransformerEncoder) -> None:
    texts = [text for intent in INTENTS for text in clinc[intent][:40]]
    truth = np.repeat(np.arange(len(INTENTS)), 40)
    parts = split(encoder.encode(texts), own(texts))
    assert parts.max() + 1 >= 4
    assert adjusted_rand_score(truth, parts) >= 0.75


@needs_data
@pytest.mark.parametrize("intent", INTENTS[:3])
def test_one_task_is_not_split(clinc: dict[str, list[str]], encoder: TransformerEncoder, intent: str) -> None:
    texts = clinc[intent][:80]
    assert not split(encoder.encode(texts), own(texts)).any()


def test_a_parametrised_task_is_not_split(encoder: TransformerEncoder) -> None:
    cities = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Accra")
    texts = [f"What is the weather like in {cities[n % 8]} on day {n}?" for n in range(120)]
    assert not split(encoder.encode(texts), own(texts)).any()


def test_few_conversations_are_not_split(encoder: TransformerEncoder) -> None:
    rows = encoder.encode(["Set an alarm for six.", "Translate this into French."] * 40)
    assert set(split(rows, [str(place) for place in range(80)])) == {0, 1}
    assert set(split(rows, [str(place % 8) for place in range(80)])) == {-1}
    assert set(split(rows[:20], [str(place) for place in range(20)])) == {-1}
    assert set(split(rows[::2][:20], [str(place) for place in range(20)])) == {0}


def test_calls_that_are_like_no_others_are_of_no_part(encoder: TransformerEncoder) -> None:
    alarms = [f"Set an alarm for {n} o'clock." for n in range(20)]
    others = [f"{word} {n * 7919}" for n, word in enumerate(OTHERS)]
    parts = split(encoder.encode(alarms + others), own(alarms + others))
    assert set(parts[:20]) == {0}
    assert set(parts[20:]) == {-1}


@needs_data
def test_tells_tasks_apart_and_knows_what_it_has_not_seen(
    clinc: dict[str, list[str]], static: StaticEncoder, encoder: TransformerEncoder
) -> None:
    seen = [text for intent in INTENTS for text in clinc[intent][:60]]
    payloads = Payloads(seen, np.repeat(np.arange(len(INTENTS)), 60), own(seen))
    model = fit_payloads(INTENTS, payloads, static, encoder)
    assert model is not None
    unseen = [text for intent in INTENTS for text in clinc[intent][100:110]] + clinc["oos"][:40]
    verdicts, unclear = cascade(model, static.encode(unseen), encoder.encode(unseen))
    inside, outside = verdicts[:60], verdicts[60:]
    right = [verdict.cluster_id == INTENTS[place // 10] for place, verdict in enumerate(inside)]
    assert np.mean(right) >= 0.95
    assert np.mean([verdict.fits for verdict in inside]) >= 0.85
    assert np.mean([verdict.fits for verdict in outside]) <= 0.15
    assert unclear[:60].mean() <= 0.5


def test_learns_without_a_transformer(static: StaticEncoder) -> None:
    texts = [f"Cancel order {n} of the {word}" for n, word in enumerate(["lamp", "chair", "table", "sofa"] * 8)]
    model = fit_payloads(("c-1",), Payloads(texts, np.zeros(32, np.int64), own(texts)), static, None)
    assert model is not None
    assert model.full is None
    assert model.glance(static.encode(["Cancel order 77 of the chair"])).fits is True
    assert model.glance(static.encode(["proof of the Riemann hypothesis"])).fits is False


@pytest.mark.parametrize(
    ("texts", "conversations"),
    [(["same text"] * 50, None), ([], None), (["a b", "c d", "e f"], None), ([f"text {n}" for n in range(50)], 3)],
)
def test_too_little_to_calibrate_on_is_no_model(
    texts: list[str], conversations: int | None, static: StaticEncoder
) -> None:
    names = [str(place % conversations) for place in range(len(texts))] if conversations else own(texts)
    assert fit_payloads(("c-1",), Payloads(texts, np.zeros(len(texts), np.int64), names), static, None) is None


def test_calls_without_a_payload_are_expected_where_they_were_seen(static: StaticEncoder) -> None:
    texts = [f"Cancel order {n} of the lamp" for n in range(30)] + [""] * 5
    model = fit_payloads(("c-1",), Payloads(texts, np.zeros(35, np.int64), own(texts)), static, None)
    assert model is not None
    assert model.without_payload().fits is True

"""The payload level, learned: thin skeletons are split where the payloads are really several tasks, and only there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from router.encoder import StaticEncoder, TransformerEncoder
from router.learning.payloads import Payloads, fit_payloads, split
from router.payload import cascade

DATA = Path(__file__).parents[4] / "shared" / "data" / "clinc150_train_val.jsonl.gz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="CLINC150 is not beside the repository")
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
def test_a_thin_skeleton_of_several_tasks_is_split(clinc: dict[str, list[str]], static: StaticEncoder) -> None:
    texts = [text for intent in INTENTS for text in clinc[intent][:80]]
    truth = np.repeat(np.arange(len(INTENTS)), 80)
    parts = split(static.encode(texts), own(texts), thin=True)
    assert parts.max() >= 2
    pure = sum(np.bincount(truth[parts == part]).max() for part in range(parts.max() + 1))
    assert pure / len(texts) >= 0.9 or parts.max() + 1 < len(INTENTS)


@needs_data
def test_a_skeleton_that_says_what_to_do_is_never_split(clinc: dict[str, list[str]], static: StaticEncoder) -> None:
    texts = [text for intent in INTENTS for text in clinc[intent][:80]]
    assert not split(static.encode(texts), own(texts), thin=False).any()


@needs_data
@pytest.mark.parametrize("intent", INTENTS)
def test_one_task_is_not_split(clinc: dict[str, list[str]], static: StaticEncoder, intent: str) -> None:
    texts = clinc[intent][:100]
    assert not split(static.encode(texts), own(texts), thin=True).any()


def test_a_parametrised_task_is_not_split(static: StaticEncoder) -> None:
    cities = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Accra")
    texts = [f"What is the weather like in {cities[n % 8]} on day {n}?" for n in range(160)]
    assert not split(static.encode(texts), own(texts), thin=True).any()


def test_few_calls_and_few_conversations_are_not_split(static: StaticEncoder) -> None:
    texts = ["Set an alarm for six.", "Translate this into French."] * 40
    assert not split(static.encode(texts), own(texts), thin=True).any()
    assert not split(static.encode(texts[:20]), own(texts[:20]), thin=True).any()


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
    assert model.glance(static.encode(["Cancel order 77 of the stool"])).fits is True
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

"""Held-out calls through a served SLM into a certificate: what counts, what doesn't, and how it can end without one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.errors import BadRequest, Conflict, NoSuchThing, Unprocessable
from proxy.learning.workshop import Workshop
from proxy.promotion.moves import Wish, demote_cluster, promote_cluster
from proxy.proving.evaluation import chosen_threshold, evaluate, in_words
from proxy.settings import Settings
from router.certificate import Certificate
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard
from router.promotion import Cause, Stage
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.certificates import list_certificates
from storage.repositories.clusters import StoredCluster, activate_snapshot
from tests.proxy.fake_vllm import FakeVllm
from tests.storage.conftest import make_record

LABELS = {"kind": "label", "labels": ["refund", "stock", "login"]}
MINUTE_NS = 60 * 10**9
Told = list[str]


def label_of(text: str) -> str:
    """What the LLM answers: settled by the ticket."""
    return LABELS["labels"][sum(text.encode()) % 3]


def asked(request: dict[str, Any]) -> str:
    """The ticket that a request is about."""
    return str(request["messages"][-1]["content"])


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    """Knows every answer."""
    with FakeVllm() as fake:
        fake.answerer = lambda request: (label_of(asked(request)), 0.99)
        yield fake


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def workshop(fake: FakeVllm, tmp_path: Path, told: Told) -> Iterator[Workshop]:
    """A log with one task, `c-1`, that no call is of yet."""
    settings = Settings(slm_url={"gpu": fake.url}, data_dir=tmp_path, encoder="", slm_timeout_seconds=5)
    workshop = Workshop.open(settings, told.append)
    know(workshop)
    yield workshop
    workshop.database.close()


def know(workshop: Workshop, contract: dict[str, Any] | None = None) -> None:
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s-1", label="triage", contract=contract or LABELS, skeleton="You sort tickets.",
        calls=9, conversations=9, examples=[],
    )  # fmt: skip
    with workshop.database.write() as session:
        activate_snapshot(session, workshop.cipher, "s-1", 9, [row])


def tickets(count: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [f"Ticket {number}: item {draw.randrange(10**9)} is late" for number in range(count)]


def chat(text: str, **more: Any) -> dict[str, Any]:
    said = [{"role": "system", "content": "You sort tickets."}, {"role": "user", "content": text}]
    return {"model": "gpt-4o", "messages": said, **more}


def log_calls(
    workshop: Workshop,
    texts: Sequence[str],
    answer: Callable[[str], str] = label_of,
    begin: datetime | None = None,
    model: str = "gpt-4o-2024-08-06",
    request: Callable[[str], dict[str, Any]] = chat,
    **changes: Any,
) -> None:
    """Calls of the task, a minute apart, as the LLM answered them."""
    begin = begin or datetime.now(UTC) - timedelta(days=9)
    records = []
    for number, text in enumerate(texts):
        message = {"role": "assistant", "content": answer(text)}
        completion = {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        records.append(
            make_record(
                orjson.dumps(request(text)), orjson.dumps(completion), cluster_id="c-1",
                arrived_at_ns=int(begin.timestamp() * 1e9) + number * MINUTE_NS, **changes,
            )
        )  # fmt: skip
    with workshop.database.write() as session:
        insert_calls(session, workshop.cipher, [(record, CallFacts(model_reported=model)) for record in records])


def certificates(workshop: Workshop) -> list[Certificate]:
    with workshop.database.read() as session:
        return [Certificate.from_json(row.content) for row in list_certificates(session, "c-1")]


def test_an_slm_that_agrees_on_enough_held_out_calls_is_proved(workshop: Workshop, told: Told) -> None:
    log_calls(workshop, tickets(300))
    number, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.n, certificate.failures, certificate.passes) == (75, 0, True)
    assert (certificate.source, certificate.attempt, certificate.comparator) == ("holdout", 1, "label: normalised")
    assert certificate.subject.teacher == "gpt-4o-2024-08-06"
    assert "proved: 0 of 75" in in_words(certificate)
    [kept] = certificates(workshop)
    assert kept == certificate
    assert [line for line in told if line.startswith("replaying: ")][-1] == "replaying: 100%"
    made = promote_cluster(
        workshop.database, workshop.cipher, workshop.settings, "c-1", Wish("tiny", Stage.LIVE), "anna"
    )
    assert made.stage is Stage.LIVE
    assert number


def test_the_last_quarter_certifies_and_what_may_have_trained_is_not_asked(workshop: Workshop, fake: FakeVllm) -> None:
    texts, seen = tickets(300), []

    def remember(request: dict[str, Any]) -> tuple[str, float]:
        seen.append(asked(request))
        return label_of(asked(request)), 0.9

    fake.answerer = remember
    log_calls(workshop, texts)
    evaluate(workshop, "c-1", "tiny")
    assert sorted(seen) == sorted(texts[180:])


def test_too_few_calls_say_how_many_it_takes(workshop: Workshop) -> None:
    log_calls(workshop, tickets(60))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.passes, certificate.n, certificate.failures, certificate.needed) == (False, 15, 0, 59)
    assert "it takes 59 served conversations, about 59 held out" in in_words(certificate)
    with pytest.raises(Conflict, match="15 conversations served, needed: 59"):
        promote_cluster(workshop.database, workshop.cipher, workshop.settings, "c-1", Wish("tiny", Stage.LIVE), "a")


def test_contradictory_answers_are_never_proved(workshop: Workshop) -> None:
    """An LLM that says one thing today and another tomorrow: nobody can agree with it, itself included."""
    draw = random.Random(3)
    texts = [text for text in tickets(200) for _ in range(2)]
    log_calls(workshop, texts, answer=lambda text: draw.choice(LABELS["labels"]))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert not certificate.passes
    assert certificate.ceiling is not None
    assert certificate.ceiling.pairs == 200
    assert certificate.ceiling_low is not None
    assert certificate.ceiling_low > 0.5
    assert "ceiling" in certificate.short_of(0.05)


def test_where_sureness_tells_right_from_wrong_only_the_sure_answers_are_certified(
    workshop: Workshop, fake: FakeVllm
) -> None:
    """One ticket in five is answered wrongly, and half-heartedly."""

    def waver(request: dict[str, Any]) -> tuple[str, float]:
        text = asked(request)
        return ("login" if label_of(text) != "login" else "stock", 0.6) if text[-9] in "05" else (label_of(text), 0.95)

    fake.answerer = waver
    log_calls(workshop, [f"{text[:-8]}{number % 10} is late" for number, text in enumerate(tickets(900))])
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert certificate.passes
    assert certificate.threshold is not None
    assert 0.6 < certificate.threshold <= 0.95
    assert 0.7 < certificate.coverage < 0.9


def test_answers_that_break_the_contract_or_come_too_late_are_not_served(workshop: Workshop, fake: FakeVllm) -> None:
    def break_some(request: dict[str, Any]) -> tuple[str, float]:
        number = int(asked(request).split()[1].rstrip(":"))
        return ("I would rather not say", 0.99) if number % 4 == 0 else (label_of(asked(request)), 0.99)

    fake.answerer = break_some
    log_calls(workshop, tickets(400))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert certificate.passes
    assert (certificate.conversations, certificate.n, certificate.failures) == (100, 75, 0)


def test_what_is_never_diverted_is_not_served(workshop: Workshop, fake: FakeVllm) -> None:
    log_calls(workshop, tickets(300), request=lambda text: chat(text, logprobs=True))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.n, certificate.passes, fake.seen) == (0, False, {})


def test_calls_of_the_responses_endpoint_are_replayed_as_such(workshop: Workshop) -> None:
    texts = tickets(260)
    records = []
    for number, text in enumerate(texts):
        output = [{"type": "message", "content": [{"type": "output_text", "text": label_of(text)}]}]
        body = {"model": "gpt-4o", "instructions": "You sort tickets.", "input": text, "store": False}
        records.append(
            make_record(
                orjson.dumps(body), orjson.dumps({"model": "gpt-4o", "status": "completed", "output": output}),
                endpoint="responses", path="/v1/responses", cluster_id="c-1",
                arrived_at_ns=1_767_000_000_000_000_000 + number * MINUTE_NS,
            )
        )  # fmt: skip
    with workshop.database.write() as session:
        insert_calls(session, workshop.cipher, [(record, CallFacts(model_reported="gpt-4o")) for record in records])
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.n, certificate.failures, certificate.passes) == (65, 0, True)


def test_streamed_calls_are_replayed_too(workshop: Workshop) -> None:
    log_calls(workshop, tickets(260), request=lambda text: chat(text, stream=True))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.n, certificate.failures) == (65, 0)


def test_an_llm_that_was_replaced_under_the_same_name_is_no_witness(workshop: Workshop) -> None:
    """The newest hundred answers are another model's: what the old one said is no evidence about the new one.

    The last quarter of all 520 calls certifies, as it would if an SLM had been trained on the first: it is all of the
    new one.
    """
    log_calls(workshop, tickets(200), answer=lambda text: "stock", model="gpt-4o-2024-08-06")
    log_calls(workshop, tickets(320, seed=2), begin=datetime.now(UTC) - timedelta(days=3), model="gpt-4o-2026-11-01")
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert certificate.subject.teacher == "gpt-4o-2026-11-01"
    assert (certificate.conversations, certificate.failures, certificate.passes) == (130, 0, True)


def test_what_the_world_disproved_is_proved_again_on_later_calls_only(workshop: Workshop) -> None:
    log_calls(workshop, tickets(300))
    evaluate(workshop, "c-1", "tiny")
    ours = workshop.database, workshop.cipher, workshop.settings
    promote_cluster(*ours, "c-1", Wish("tiny", Stage.LIVE), "anna")
    demote_cluster(workshop.database, "c-1", "watch", Cause.BOUND_BROKEN)
    with pytest.raises(Conflict, match="no held-out call"):
        evaluate(workshop, "c-1", "tiny")
    log_calls(workshop, tickets(700, seed=4), begin=datetime.now(UTC) + timedelta(seconds=1))
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert certificate.passes
    assert promote_cluster(*ours, "c-1", Wish("tiny", Stage.LIVE), "anna").stage is Stage.LIVE


def test_each_further_attempt_has_to_prove_more(workshop: Workshop) -> None:
    log_calls(workshop, tickets(300))
    evaluate(workshop, "c-1", "tiny")
    _, second = evaluate(workshop, "c-1", "tiny")
    _, third = evaluate(workshop, "c-1", "tiny")
    assert [made.attempt for made in certificates(workshop)] == [3, 2, 1]
    assert (second.delta, third.delta) == (pytest.approx(0.025), pytest.approx(0.05 / 6))
    assert not third.passes
    assert third.needed == 94


def test_a_server_that_dies_in_the_middle_ends_it_without_a_certificate(workshop: Workshop, fake: FakeVllm) -> None:
    log_calls(workshop, tickets(300))
    left = iter(range(20))

    def fall_silent(request: dict[str, Any]) -> tuple[str, float]:
        if next(left, None) is None:
            fake.fault = "engine-dead"
        return label_of(asked(request)), 0.99

    fake.answerer = fall_silent
    with pytest.raises(Conflict, match=r"stopped answering.*nothing was certified"):
        evaluate(workshop, "c-1", "tiny")
    assert certificates(workshop) == []


def test_what_cant_be_evaluated_is_refused_in_words(workshop: Workshop, fake: FakeVllm) -> None:
    with pytest.raises(Conflict, match=r"no held-out call that the LLM answered whole.*takes 59 conversations"):
        evaluate(workshop, "c-1", "tiny")
    log_calls(workshop, tickets(300))
    with pytest.raises(NoSuchThing, match="c-2"):
        evaluate(workshop, "c-2", "tiny")
    with pytest.raises(NoSuchThing, match="no SLM server 'cpu'"):
        evaluate(workshop, "c-1", "tiny", slm="cpu")
    with pytest.raises(Unprocessable, match="does not have the model 'nobody'"):
        evaluate(workshop, "c-1", "nobody")
    know(workshop, {"kind": "text"})
    with pytest.raises(Conflict, match="UNDERSTUDY_ENCODER"):
        evaluate(workshop, "c-1", "tiny")
    fake.die()
    know(workshop)
    with pytest.raises(Conflict, match="can't be reached"):
        evaluate(workshop, "c-1", "tiny")
    assert certificates(workshop) == []
    two = workshop.settings.model_copy(update={"slm_url": {"gpu": fake.url, "cpu": fake.url}})
    with pytest.raises(BadRequest, match="one of gpu, cpu"):
        evaluate(Workshop(two, workshop.database, workshop.cipher, workshop.artifacts, print), "c-1", "tiny")


def test_a_label_that_was_seen_once_is_served_when_it_is_right(workshop: Workshop, fake: FakeVllm) -> None:
    """It is in the contract: one more answer like the others; a wrong one of it is one failure."""
    texts = tickets(300)
    log_calls(workshop, texts, answer=lambda text: "login" if text == texts[-1] else "stock")
    fake.answerer = lambda request: ("stock", 0.99)
    _, certificate = evaluate(workshop, "c-1", "tiny")
    assert (certificate.n, certificate.failures, certificate.passes, certificate.needed) == (75, 1, False, 93)


def test_free_text_is_compared_by_the_encoder(workshop: Workshop, fake: FakeVllm) -> None:
    know(workshop, {"kind": "text", "min_chars": 1})
    log_calls(workshop, tickets(24), answer=lambda text: "Your parcel is late. We are sorry.")
    with_encoder = workshop.settings.model_copy(update={"encoder": "sentence-transformers/all-MiniLM-L6-v2"})
    says = {True: "We are sorry. Your parcel is late!", False: "Please reset your password."}
    fake.answerer = lambda request: (says["Ticket 23:" not in asked(request)], 0.9)
    ours = Workshop(with_encoder, workshop.database, workshop.cipher, workshop.artifacts, print)
    _, certificate = evaluate(ours, "c-1", "tiny")
    assert (certificate.n, certificate.failures) == (6, 1)
    assert "all-MiniLM-L6-v2" in certificate.comparator


def test_a_large_calibration_split_proves_its_threshold_and_a_small_one_suggests_it() -> None:
    draw = random.Random(1)
    sure = [draw.random() for _ in range(1200)]
    failed = [one < 0.3 for one in sure]
    names = [f"c{number}" for number in range(1200)]
    standard = Standard(0.05, 0.05)
    proved = chosen_threshold(Evidence.of(sure, failed, names), 1000, standard)
    guessed = chosen_threshold(Evidence.of(sure[:60], failed[:60], names[:60]), 100, standard)
    assert proved is not None
    assert guessed is not None
    assert 0.2 < proved < 0.4
    assert 0.2 < guessed < 0.4
    assert chosen_threshold(Evidence.of([], []), 0, standard) is None

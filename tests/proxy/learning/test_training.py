"""From the log to a registered model: a real log, a real tiny base model, an SLM server that says what it serves."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import delete

from proxy.errors import BadRequest, Conflict, NoSuchThing, Unprocessable
from proxy.learning.forgetting import forget_samples
from proxy.learning.training import fine_tune, make_dataset, open_dataset, trained_on
from proxy.learning.workshop import Workshop
from proxy.proving.evaluation import evaluate
from proxy.runs.learner import Rounds
from proxy.runs.queue import Runs
from proxy.settings import Settings
from proxy.slm.kept_adapters import artifact_of
from proxy.slm.vllm import VllmServer
from router.learning.curation.weighed import WeighedToken
from router.learning.training.model_card import ModelCard
from router.learning.training.recipe import Recipe
from storage.errors import ArtifactMissing, NotFound
from storage.ids import new_call_id, parse_call_id
from storage.models import Call, ModelRow
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.costs import cost_totals
from storage.repositories.registry import get_model, list_audit
from tests.proxy.fake_vllm import FakeVllm
from tests.router.learning.training.conftest import build_base
from tests.storage.conftest import make_record

CALLS = 60
RECIPE = Recipe(steps=2, min_samples=20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def fake(base: Path) -> Iterator[FakeVllm]:
    with FakeVllm() as fake:
        fake.base = str(base)
        yield fake


@pytest.fixture
def workshop(fake: FakeVllm, tmp_path: Path) -> Iterator[Workshop]:
    """A log with one task, whose calls are each of a conversation of its own."""
    told: list[str] = []
    settings = Settings(slm_url={"gpu": fake.url}, data_dir=tmp_path / "data", training_usd_per_hour=3600)
    settings.data_dir.mkdir()
    workshop = Workshop.open(settings, told.append)
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s", label="triage", contract={"kind": "label", "labels": ["yes", "no"]},
        skeleton="", calls=CALLS, conversations=CALLS, examples=[],
    )  # fmt: skip
    with workshop.database.write() as session:
        activate_snapshot(session, workshop.cipher, "s", CALLS, [row])
    log_calls(workshop, CALLS)
    yield workshop
    workshop.database.close()


def log_calls(workshop: Workshop, count: int, seed: int = 1, logprobs: object = None, **request_fields: Any) -> None:
    """A second apart; each seed's a day after the one before."""
    draw = random.Random(seed)
    with workshop.database.write() as session:
        for number in range(count):
            asked = f"{draw.randrange(10**6)} of {draw.randrange(10**6)}"
            request = {"model": "m", "messages": [{"role": "user", "content": asked}]} | request_fields
            choice = {"message": {"content": answer_to(asked)}, "finish_reason": "stop", "logprobs": logprobs}
            answer = {"choices": [choice]}
            record = make_record(
                json.dumps(request).encode(),
                json.dumps(answer).encode(),
                call_id=new_call_id(),
                arrived_at_ns=10**18 + seed * 86_400 * 10**9 + number * 10**9,
                cluster_id="c-1",
            )
            insert_calls(session, workshop.cipher, [(record, CallFacts())])


def answer_to(asked: str) -> str:
    """What the LLM says."""
    return "yes" if int(asked.split()[0]) % 2 else "no"


def test_a_dataset_is_kept_encrypted_and_is_what_it_was(workshop: Workshop) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    dataset = open_dataset(workshop, dataset_id)
    curated = dataset.curated
    assert (len(curated.train), len(curated.calibration), len(curated.certification)) == (36, 9, 15)
    assert {sample.call_id for sample in curated.train}.isdisjoint(call.call_id for call in curated.calibration)
    assert dataset.contract.labels == ("yes", "no")
    assert workshop.artifacts.open(dataset_id).metadata["digest"] == dataset.digest
    assert open_dataset(workshop, make_dataset(workshop, "c-1")).digest == dataset.digest
    text = orjson.dumps(curated.train[0].chat[0]["content"])[1:-1]
    assert all(text not in path.read_bytes() for path in workshop.artifacts.open(dataset_id).path.iterdir())


def test_the_llm_s_token_probabilities_are_kept_where_a_call_asked_for_them(workshop: Workshop) -> None:
    tokens = [{"token": "yes", "logprob": -0.5, "top_logprobs": [{"token": "no", "logprob": -1.0}]}]
    log_calls(workshop, 10, seed=0, logprobs={"content": tokens})
    log_calls(workshop, 10, seed=-2, logprobs={"content": tokens}, temperature=0, top_logprobs=2)
    train = open_dataset(workshop, make_dataset(workshop, "c-1")).curated.train
    weighed = [sample for sample in train if sample.weighed]
    assert 0 < len(weighed) <= 10, "those that asked"
    assert {sample.weighed for sample in weighed} == {(WeighedToken("yes", (("yes", -0.5), ("no", -1.0))),)}


def test_a_trained_adapter_is_registered_and_served(workshop: Workshop, base: Path, fake: FakeVllm) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    name = fine_tune(workshop, dataset_id, recipe=RECIPE)
    place = workshop.settings.adapters_dir / name
    card = ModelCard.read(place)
    assert card is not None
    assert (card.base, card.task, card.origin) == (str(base), "c-1", dataset_id)
    with workshop.database.read() as session:
        row = get_model(session, name)
        costs = cost_totals(session)
        noted = list_audit(session)[0]
    assert row is not None
    assert (row.slm, row.adapter, row.base, row.max_context_tokens) == ("gpu", str(place), str(base), 256)
    assert row.weights == card.weights
    assert (noted.actor, noted.action, noted.subject) == ("learner", "model.trained", name)
    assert [(cost.kind, cost.cluster_id) for cost in costs] == [("training", "c-1")]
    assert 0.1 < costs[0].usd < 60, "a dollar a second"
    VllmServer("gpu", fake.url).ensure_served(name, row.adapter)
    assert fake.adapters == {name: str(place)}
    assert fine_tune(workshop, dataset_id, recipe=RECIPE) == name, "there already"
    kept = workshop.artifacts.open(artifact_of(card.weights))
    assert kept.files == {path.name: path.read_bytes() for path in place.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "model-card.json"} <= set(kept.files)
    dataset = trained_on(workshop, name)
    assert dataset is not None
    assert (kept.kind, kept.metadata["name"], kept.metadata["base"], kept.metadata["dataset"]) == (
        "adapter", name, str(base), dataset.digest,
    )  # fmt: skip
    assert dataset.digest == open_dataset(workshop, dataset_id).digest
    shutil.rmtree(kept.path)
    kept.path.write_bytes(b"")  # now nothing can be kept in its place
    with pytest.raises(Conflict, match=f"{name} is trained and registered, but .* can't be kept.*Make room"):
        fine_tune(workshop, dataset_id, recipe=RECIPE)
    kept.path.unlink()
    fine_tune(workshop, dataset_id, recipe=RECIPE)
    assert workshop.artifacts.open(kept.artifact_id).files == kept.files, "the same training keeps it, trained once"


def test_a_model_is_proved_on_the_calls_that_its_dataset_kept(workshop: Workshop, fake: FakeVllm) -> None:
    name = fine_tune(workshop, make_dataset(workshop, "c-1"), recipe=RECIPE)
    log_calls(workshop, CALLS, seed=2)
    shutil.rmtree(workshop.settings.adapters_dir)  # the volume is lost
    fake.answerer = lambda request: (answer_to(request["messages"][-1]["content"]), 0.99)
    _, certificate = evaluate(workshop, "c-1", name)
    assert (certificate.n, certificate.failures) == (15, 0), "a new split would hold out 30"


def test_what_was_not_trained_here_has_no_dataset(workshop: Workshop) -> None:
    assert trained_on(workshop, "unheard of") is None
    name = fine_tune(workshop, make_dataset(workshop, "c-1"), recipe=RECIPE, name="mine")
    card = ModelCard.read(workshop.settings.adapters_dir / name)
    assert card is not None
    assert card.origin is not None
    shutil.rmtree(workshop.artifacts.open(card.origin).path)
    assert trained_on(workshop, name) is None


def test_a_full_fine_tune_says_how_it_is_served(workshop: Workshop) -> None:
    told: list[str] = []
    workshop = Workshop(workshop.settings, workshop.database, workshop.cipher, workshop.artifacts, told.append)
    name = fine_tune(workshop, make_dataset(workshop, "c-1"), method="full", recipe=RECIPE, name="whole")
    place = workshop.settings.adapters_dir / name
    with workshop.database.read() as session:
        row = get_model(session, name)
    assert row is not None
    assert (row.adapter, row.base) == (None, str(place))
    assert f"`vllm serve {place} --served-model-name whole`" in told[-1]
    assert trained_on(workshop, name) is not None


def test_what_can_not_be_trained_is_said_and_still_paid_for(workshop: Workshop) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    with pytest.raises(Unprocessable, match="there are 36 samples to train on, and 50 are needed"):
        fine_tune(workshop, dataset_id)
    with pytest.raises(Unprocessable, match="no such directory"):
        fine_tune(workshop, dataset_id, base="/models/gone", recipe=RECIPE)
    with pytest.raises(Unprocessable, match="diverged"):
        fine_tune(workshop, dataset_id, recipe=Recipe(steps=20, learning_rate=1e4, min_samples=20))
    assert list(workshop.settings.adapters_dir.iterdir()) == []
    with workshop.database.read() as session:
        assert [cost.kind for cost in cost_totals(session)] == ["training"]
        assert list_audit(session) == []


@pytest.mark.parametrize(
    ("asked", "failure", "said"),
    [
        ({"slm": "cpu"}, NoSuchThing, "UNDERSTUDY_SLM_URL names gpu"),
        ({"name": "../elsewhere"}, BadRequest, "a model's name is"),
        ({"name": "taken"}, Conflict, "another model is registered as 'taken': /adapters/taken"),
        ({"name": "occupied"}, Conflict, "holds another model"),
    ],
)
def test_what_is_asked_wrongly_is_refused(
    workshop: Workshop, asked: dict[str, str], failure: type[Exception], said: str
) -> None:
    (workshop.settings.adapters_dir / "occupied").mkdir(parents=True)
    with workshop.database.write() as session:
        session.add(
            ModelRow(
                name="taken", slm="gpu", adapter="/adapters/taken", base=None, max_context_tokens=None, weights=None,
                created_at=datetime.now(UTC),
            )
        )  # fmt: skip
    with pytest.raises(failure, match=said):
        fine_tune(workshop, make_dataset(workshop, "c-1"), recipe=RECIPE, **asked)  # type: ignore[arg-type]


def test_a_base_that_nobody_named_is_asked_for(workshop: Workshop, fake: FakeVllm) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    fake.listed = ["tiny"]
    with pytest.raises(Conflict, match="serves no base model that it names; say which base model"):
        fine_tune(workshop, dataset_id, recipe=RECIPE)
    fake.die()
    with pytest.raises(Conflict, match="can't be reached"):
        fine_tune(workshop, dataset_id, recipe=RECIPE)


def test_what_is_no_dataset_is_not_trained_on(workshop: Workshop) -> None:
    other = workshop.artifacts.put("snapshot", {"a": b""}, {})
    with pytest.raises(Unprocessable, match="a snapshot, can't be trained on"):
        fine_tune(workshop, other)
    with pytest.raises(ArtifactMissing):
        fine_tune(workshop, "dataset-0")
    with pytest.raises(NotFound):
        make_dataset(workshop, "c-2")


def test_datasets_forget_the_samples_of_calls_that_the_log_forgot(workshop: Workshop) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    before = open_dataset(workshop, dataset_id)
    assert forget_samples(workshop.artifacts, workshop.database) == 0
    assert open_dataset(workshop, dataset_id) == before
    gone, *kept = before.curated.train
    with workshop.database.write() as session:
        session.execute(delete(Call).where(Call.call_id == parse_call_id(gone.call_id)))
    broken = workshop.artifacts.put("dataset", {"about.json": b"{}"}, {})
    assert forget_samples(workshop.artifacts, workshop.database) == 1
    after = open_dataset(workshop, dataset_id)
    assert after.curated.train == tuple(kept)
    assert (after.curated.calibration, after.curated.certification) == (
        before.curated.calibration, before.curated.certification,
    )  # fmt: skip
    assert workshop.artifacts.metadata(dataset_id)["train"] == len(kept)
    assert workshop.artifacts.open(broken).files == {"about.json": b"{}"}


def test_the_learner_forgets_beside_its_other_rounds(workshop: Workshop) -> None:
    dataset_id = make_dataset(workshop, "c-1")
    with workshop.database.write() as session:
        session.execute(delete(Call))
    runs = Runs(workshop.settings)
    rounds = Rounds(workshop.settings, workshop.database, workshop.cipher, runs, workshop.settings.data_dir / "lock")
    rounds._begin_to_forget()
    assert rounds._house is not None
    rounds._house.join(30)
    assert open_dataset(workshop, dataset_id).curated.train == ()
    runs.close()

"""Which base model is trained on: real, tiny models behind simulated servers that answer with them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from proxy.bakeoff.choice import Choice, choose_base
from proxy.errors import Conflict, NoSuchThing, Unprocessable
from proxy.learning.training import make_dataset, open_dataset
from proxy.learning.workshop import Workshop
from proxy.runs.queue import AUTO, RunKind, RunWish
from proxy.runs.stages import stages_of
from proxy.settings import Settings
from router.learning.selection.bakeoff import Terms
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.quiet import quiet
from router.learning.training.recipe import Method, Recipe
from router.learning.training.threads import threads_for
from storage.ids import new_call_id
from storage.records import CallFacts
from storage.repositories.calls import insert_calls
from storage.repositories.clusters import StoredCluster, activate_snapshot
from storage.repositories.costs import cost_totals
from tests.proxy.fake_vllm import FakeVllm
from tests.router.learning.training.conftest import GROUPS, QUICK, build_base, guessing, sorting
from tests.storage.conftest import make_record

CALLS = 100
TERMS = Terms(passes=0.9, first_steps=20, rounds=2)
UNTRAINED = Terms(passes=0.99, rounds=0)
ITEMS = [(word, group) for group, words in GROUPS.items() for word in words]
FILLING = ("red", "old", "big", "wet", "new", "raw", "odd", "dry", "hot", "low")


@dataclass
class Weights:
    """What a simulated server answers with, in place of vLLM: a base model, and the adapters that it was given."""

    fake: FakeVllm
    base: Path
    asked: list[tuple[str, str]] = field(default_factory=list)
    _adapted: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.base)

    def answer(self, request: dict[str, Any]) -> tuple[str, float]:
        """Its likeliest answer, and how sure it may be taken to be."""
        import torch

        name = request["model"]
        self.asked.append((name, request["messages"][-1]["content"]))
        with quiet(), torch.no_grad(), threads_for(0):
            prompt = self._tokenizer.apply_chat_template(
                request["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            ids = self._model(name).generate(**prompt, max_new_tokens=8, do_sample=False)
        return self._tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True), 0.9

    def _model(self, name: str) -> Any:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        if name not in self._adapted:
            model = AutoModelForCausalLM.from_pretrained(self.base)
            path = self.fake.adapters.get(name)
            self._adapted[name] = PeftModel.from_pretrained(model, path) if path else model
        return self._adapted[name]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model that can't learn the task in the time, and a larger one that can; both know how answers look."""
    directory = tmp_path_factory.mktemp("bases")
    for name, hidden in (("small", 8), ("large", 64)):
        build_base(directory / "empty" / name, hidden=hidden)
        recipe = Recipe(steps=40, learning_rate=5e-3, validation_share=0)
        fine_tune(directory / "empty" / name, directory / name, guessing(sorting()), method=Method.FULL, recipe=recipe)
    return {name: directory / name for name in ("small", "large")}


@pytest.fixture
def servers(bases: dict[str, Path]) -> Iterator[dict[str, Weights]]:
    with FakeVllm() as first, FakeVllm() as second:
        found = {name: Weights(fake, bases[name]) for name, fake in (("large", first), ("small", second))}
        for weights in found.values():
            weights.fake.base, weights.fake.answerer = str(weights.base), weights.answer
        yield found


@pytest.fixture
def workshop(servers: dict[str, Weights], tmp_path: Path) -> Iterator[Workshop]:
    """A log with one task: words, to be put into groups."""
    urls = {name: weights.fake.url for name, weights in servers.items()}
    settings = Settings(slm_url=urls, data_dir=tmp_path, encoder="", training_usd_per_hour=3600)
    told: list[str] = []
    workshop = Workshop.open(settings, told.append)
    row = StoredCluster(
        cluster_id="c-1", snapshot_id="s", label="groups", contract={"kind": "label", "labels": [*GROUPS]},
        skeleton="", calls=CALLS, conversations=CALLS, examples=[],
    )  # fmt: skip
    with workshop.database.write() as session:
        activate_snapshot(session, workshop.cipher, "s", CALLS, [row])
    log_calls(workshop, CallFacts())
    yield workshop
    workshop.database.close()


def log_calls(workshop: Workshop, facts: CallFacts) -> None:
    with workshop.database.write() as session:
        for number, (asked, group) in enumerate(questions(CALLS)):
            request = {"model": "m", "messages": [{"role": "user", "content": asked}]}
            answer = {"choices": [{"message": {"content": group}, "finish_reason": "stop"}]}
            record = make_record(
                json.dumps(request).encode(), json.dumps(answer).encode(), call_id=new_call_id(), cluster_id="c-1",
                arrived_at_ns=10**18 + number * 10**9,
            )  # fmt: skip
            insert_calls(session, workshop.cipher, [(record, facts)])


def questions(count: int) -> list[tuple[str, str]]:
    """Each another one."""
    draw = random.Random(1)
    found: dict[str, str] = {}
    while len(found) < count:
        word, group = draw.choice(ITEMS)
        found[" ".join(["put", *draw.sample(FILLING, 3), word, "away"])] = group
    return list(found.items())


def choose(workshop: Workshop, **changes: Any) -> Choice:
    dataset_id = make_dataset(workshop, "c-1")
    return choose_base(workshop, dataset_id, **{"terms": TERMS, "recipe": replace(QUICK, min_samples=20)} | changes)


def with_changes(workshop: Workshop, **settings: Any) -> Workshop:
    return replace(workshop, settings=workshop.settings.model_copy(update=settings))


def test_the_cheapest_that_learns_the_task_is_chosen_and_nothing_is_left_of_the_others(
    workshop: Workshop, servers: dict[str, Weights], bases: dict[str, Path]
) -> None:
    choice = choose(workshop)
    words = "\n".join(choice.record)
    small, large = str(bases["small"]), str(bases["large"])
    assert (choice.base, choice.slm, choice.passed) == (large, "large", True), words
    assert f"2 base models, cheapest first: {small}, {large}" in words
    assert f"{small}: 0.004536 million parameters a token, not in the catalogue, so let in unseen" in words
    assert f"taken: {large}, the cheapest that reaches 90.0%" in words
    assert [(each.model, each.steps) for each in choice.scores[:3]] == [(small, 0), (large, 0), (small, 20)]
    curated = open_dataset(workshop, make_dataset(workshop, "c-1")).curated
    texts = [asked for asked, _ in questions(CALLS)]
    unseen = set(texts[-len(curated.certification) :])
    for weights in servers.values():
        assert weights.fake.loaded, "its short fine-tune was asked where it is served"
        assert weights.fake.adapters == {}
        assert unseen.isdisjoint(text for _, text in weights.asked)
    assert list(workshop.settings.adapters_dir.iterdir()) == []
    with workshop.database.read() as session:
        [cost] = cost_totals(session)
    assert (cost.kind, cost.cluster_id) == ("training", "c-1")


def test_a_killed_choice_goes_on_and_clears_away_what_older_ones_left(
    workshop: Workshop, servers: dict[str, Weights]
) -> None:
    stale = workshop.settings.adapters_dir.absolute() / ".bakeoff-c-1-0123" / "0-50"
    stale.mkdir(parents=True)
    servers["large"].fake.adapters["left"] = str(stale)

    def die(line: str) -> None:
        if "(2 of 2)" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(replace(workshop, progress=die), terms=UNTRAINED)
    asked = len(servers["small"].asked)
    assert (asked > 0, servers["large"].asked) == (True, [])
    choice = choose(workshop, terms=UNTRAINED)
    assert choice.passed is False
    assert f"none reaches 99.0%; the best was {choice.base}" in choice.record
    assert len(servers["small"].asked) == asked, "it has been asked"
    assert len(servers["large"].asked) == asked
    assert servers["large"].fake.adapters == {}
    assert list(workshop.settings.adapters_dir.iterdir()) == []


def test_one_that_passes_as_it_is_ends_the_search(workshop: Workshop, servers: dict[str, Weights]) -> None:
    choice = choose(workshop, terms=Terms(passes=0.01))
    assert (choice.slm, choice.passed) == ("small", True)
    assert servers["large"].asked == []
    assert servers["small"].fake.loaded == []


def test_where_there_is_one_only_nobody_is_asked(workshop: Workshop, servers: dict[str, Weights]) -> None:
    named = choose(workshop, slm="large")
    assert (named.slm, named.passed, named.scores) == ("large", None, ())
    [words] = named.record
    assert words.startswith("nothing to choose: ")
    servers["small"].fake.die()
    choice = choose(workshop)
    assert (choice.slm, len(choice.record)) == ("large", 2)
    assert "'small'" in choice.record[0]
    assert "can't be reached" in choice.record[0]
    assert servers["large"].asked == []
    with pytest.raises(NoSuchThing, match="other"):
        choose(workshop, slm="other")
    with pytest.raises(Conflict, match="no SLM server"):
        choose(with_changes(workshop, slm_url={}))


def test_the_catalogue_s_rule_leaves_out_who_cant_do_the_task(
    workshop: Workshop, servers: dict[str, Weights], tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        """[[model]]
name = "org/small"
parameters = 4536
context_tokens = 256
licence = "mit"
languages = ["ru"]
tools = false
json = true
lora = false
attention_layers = 2
kv_heads = 2
head_size = 4
source = "https://example.org/small"
read = 2026-01-01
"""
    )
    choice = choose(with_changes(workshop, model_catalogue=own))
    assert choice.slm == "large"
    assert choice.record[0].endswith("small: vLLM serves no LoRA adapters on it")
    log_calls(workshop, CallFacts(input_tokens=900, output_tokens=100))
    with pytest.raises(Unprocessable, match=r"calls of 1,250 tokens don't fit the 1,024 that its server takes;.*256"):
        choose(with_changes(workshop, model_catalogue=own))


def test_who_cant_be_tried_is_out_with_the_reason(workshop: Workshop, servers: dict[str, Weights]) -> None:
    for weights in servers.values():
        weights.fake.can_load = False
    with pytest.raises(Unprocessable, match=r"after 1 steps: out, .*can't load adapters at run time.*none could be"):
        choose(workshop, terms=Terms(passes=0.99, first_steps=1, rounds=1))
    servers["small"].fake.base = "/nowhere/else"
    choice = choose(workshop, terms=UNTRAINED)
    assert choice.slm == "large"
    assert choice.record[0].startswith("left out: /nowhere/else: there is no base model in /nowhere/else")


def test_the_choice_is_made_where_several_servers_leave_it_open() -> None:
    wish = RunWish(RunKind.TRAIN, "c-1")
    assert wish.completed(["one"]) == wish
    assert wish.completed(["one", "two"]).base == AUTO
    assert replace(wish, slm="one").completed(["one", "two"]).base is None
    assert replace(wish, base="b").completed(["one", "two"]).base == "b"
    assert RunWish(RunKind.LEARN).completed(["one", "two"]).base is None
    names = [stage.name for stage in stages_of(replace(wish, base=AUTO))]
    assert names == ["make_dataset", "choose_base", "fine_tune", "evaluate"]
    assert [stage.name for stage in stages_of(wish)] == ["make_dataset", "fine_tune", "evaluate"]

"""Base models tried on a task: asked by production's own code, as they are and after short fine-tunes.

The fine-tunes are adapters. They lie in a hidden directory beside the fine-tuned models, are loaded into their servers
for as long as they are asked, and are then removed. So are those that a killed one left, by the next for the same task.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from proxy.bakeoff.entrants import Entrant, parameters_of
from proxy.errors import Conflict, Unprocessable
from proxy.learning.training import Method, failures_named, paid
from proxy.learning.workshop import Workshop
from proxy.proving.comparison import Comparison, encoder_of
from proxy.proving.held_out import held_out_calls
from proxy.proving.rehearsal import Rehearsal
from proxy.proving.text_judge import judge_of
from proxy.slm.vllm import VllmServer
from router.learning.curation.division import Assigned
from router.learning.proof.agreement import Outcome
from router.learning.selection.bakeoff import BaseUnfit
from router.learning.training import recipe as recipes
from router.learning.training.dataset import Dataset
from router.policy import never_diverted
from router.promotion import Promotion, Stage
from storage.repositories.costs import add_cost

#: One call of each. Where 95 of 100 agree, the standard error is two points: enough for a choice, and a minute's work.
SAMPLE_CONVERSATIONS = 100
_SCORES = "scores.json"


@contextmanager
def trying(
    workshop: Workshop, dataset: Dataset, entrants: Sequence[Entrant], method: Method, recipe: recipes.Recipe
) -> Iterator[Tryout]:
    """Begin, or go on with what a killed one has found out; at the block's end, all that was made is removed.

    After an error nothing is: it can be gone on with.

    Raises:
        Conflict: there is nothing to compare with or by, or the directory can't be written.
    """
    judge = judge_of(workshop.settings, workshop.database, dataset.cluster_id)
    comparison = Comparison(dataset.contract, encoder_of(workshop.settings), judge)
    comparison.check_possible(dataset.cluster_id)
    sample = _sample(workshop, dataset)
    family = f".bakeoff-{dataset.cluster_id}-"
    asked = [dataset.digest, method, repr(recipe), *(each.base for each in entrants)]
    place = workshop.settings.adapters_dir.absolute() / (family + sha256(json.dumps(asked).encode()).hexdigest()[:8])
    by_base = {each.base: each for each in entrants}
    tryout = Tryout(workshop, dataset, by_base, sample, comparison, method, recipe, place)
    for left in place.parent.glob(f"{family}*"):
        if left != place:
            tryout.remove(left)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Conflict(f"the bake-off's models can't be written: {error}") from error
    with suppress(OSError, ValueError):
        tryout.scores.update(json.loads((place / _SCORES).read_text()))
    yield tryout
    tryout.remove(place)


@dataclass
class Tryout:
    """What a bake-off asks and trains with.

    Attributes:
        entrants: by their base.
        sample: calls that nobody trains on, nor is certified on.
        place: directory of the short fine-tunes.
        scores: found so far; kept in `place`, so that nothing is found out twice.
    """

    workshop: Workshop
    dataset: Dataset
    entrants: Mapping[str, Entrant]
    sample: Sequence[Assigned]
    comparison: Comparison
    method: Method
    recipe: recipes.Recipe
    place: Path
    scores: dict[str, float] = field(default_factory=dict)

    def ask(self, base: str) -> float:
        """See `bakeoff.Ask`."""
        entrant = self.entrants[base]
        parameters_of(base)  # who wins as it is will be trained too: see that it can be
        return self._once(f"{base} 0", lambda: self._score(entrant, entrant.served.name, None))

    def train_and_score(self, base: str, steps: int) -> float:
        """See `bakeoff.TrainAndScore`."""
        return self._once(f"{base} {steps}", lambda: self._trained_score(self.entrants[base], steps))

    def remove(self, place: Path) -> None:
        """Remove a bake-off's fine-tunes, first from the servers that still have one loaded."""
        for server in {each.server.name: each.server for each in self.entrants.values()}.values():
            with suppress(Conflict):
                for model in server.models():
                    if model.parent is not None and model.root and Path(model.root).parent == place:
                        self._unload(server, model.name)
        shutil.rmtree(place, ignore_errors=True)

    def _once(self, what: str, find_out: Callable[[], float]) -> float:
        if what not in self.scores:
            self.scores[what] = find_out()
            with failures_named():
                (self.place / _SCORES).write_text(json.dumps(self.scores))
        return self.scores[what]

    def _trained_score(self, entrant: Entrant, steps: int) -> float:
        """Fine-tune for a short time and ask what comes of it.

        Raises:
            BaseUnfit
            Conflict: what training needs is not installed, or it can't be written.
        """
        place = self.place / f"{list(self.entrants).index(entrant.base)}-{steps}"
        name = f"{self.place.name[1:]}-{place.name}"
        try:
            with paid(self.workshop, self.dataset, name), failures_named():
                from router.learning.training import fine_tuning

                fine_tuning.fine_tune(
                    entrant.base,
                    place,
                    self.dataset.curated.train,
                    method=recipes.Method("lora" if self.method == "full" else self.method),
                    recipe=replace(self.recipe, steps=steps),
                    task=self.dataset.cluster_id,
                    progress=self.workshop.progress,
                )
        except Unprocessable as error:
            raise BaseUnfit(str(error)) from error
        try:
            return self._score(entrant, name, str(place))
        finally:
            self._unload(entrant.server, name)
            shutil.rmtree(place, ignore_errors=True)

    def _score(self, entrant: Entrant, model: str, adapter: str | None) -> float:
        """The share of the sample that a served model answers as the LLM did; what would not be served counts against.

        Raises:
            BaseUnfit: its server doesn't take the adapter, or stops answering.
            Conflict: the encoder that texts are compared by is not to be had.
        """
        settings, cluster_id, server = self.workshop.settings, self.dataset.cluster_id, entrant.server
        try:
            context_tokens = server.ensure_served(model, adapter).max_context_tokens
            promotion = Promotion(cluster_id, model, Stage.LIVE, 1.0, server.name, adapter, context_tokens)
            rehearsal = Rehearsal(settings, promotion, self.dataset.contract, self.comparison, self.workshop.progress)
            played = asyncio.run(rehearsal.play(self.sample))
        except (Conflict, Unprocessable) as error:
            raise BaseUnfit(str(error)) from error
        except OSError as error:
            raise Conflict(f"UNDERSTUDY_ENCODER={settings.encoder} is not to be had: {error}") from error
        usd = sum(each.usd for each in played)
        if usd:
            with self.workshop.database.write() as session:
                add_cost(session, "evaluation", cluster_id, usd, {"calls": len(played), "model": model})
        agreed = sum(each.verdict is not None and each.verdict.outcome is Outcome.AGREE for each in played)
        return agreed / len(played)

    def _unload(self, server: VllmServer, model: str) -> None:
        try:
            server.unload(model)
        except Conflict as error:
            self.workshop.progress(f"bake-off: {error}")


def _sample(workshop: Workshop, dataset: Dataset) -> list[Assigned]:
    """The last call of each calibration conversation, of the newest of them.

    Raises:
        Conflict: there is none that an SLM could answer.
    """
    with workshop.database.read() as session:
        kept = (dataset.curated.calibration, ())  # those that certify are not even read
        found = held_out_calls(session, workshop.cipher, dataset.cluster_id, kept, None, workshop.progress)
    last = {each.conversation: each for each in found.calibration if not never_diverted(each.call.features)}
    if not last:
        raise Conflict(
            f"cluster {dataset.cluster_id} has no held-out call to try base models on; say which one to train, by base"
        )
    return list(last.values())[-SAMPLE_CONVERSATIONS:]

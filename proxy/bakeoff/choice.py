"""`understudy train --base auto`: which of the base models that are served an SLM for a task is to be made from.

    entrants.py    who takes part
    tryout.py      asked and compared by production's own code, each as it is, then after short fine-tunes
    here           the bake-off among them (`router.learning.selection.bakeoff`), and its record in words

They are tried on calls of the calibration part. The threshold is chosen on it afterwards, the certificate drawn up on
the other: a choice that was made here can't flatter the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.bakeoff.entrants import Entrant, by_cost, find_entrants
from proxy.bakeoff.tryout import trying
from proxy.errors import Unprocessable
from proxy.learning.training import Method, open_dataset
from proxy.learning.workshop import Workshop
from router.learning.selection.bakeoff import Score, Terms, bake_off
from router.learning.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Choice:
    """The base model to train on.

    Attributes:
        base: its directory as its server names it, or the hub's name.
        slm: that server.
        passed: whether it was seen to be good enough already; None where there was nothing to choose.
        scores: what the bake-off found, in its order.
        record: why this one, as lines of plain text.
    """

    base: str
    slm: str
    passed: bool | None
    scores: tuple[Score, ...]
    record: tuple[str, ...]


def choose_base(
    workshop: Workshop,
    dataset_id: str,
    *,
    method: Method = "lora",
    slm: str | None = None,
    terms: Terms | None = None,
    recipe: Recipe | None = None,
) -> Choice:
    """Find the cheapest served base model that is good enough for a dataset's task. Called again after a kill, goes on.

    Where none is, the best; it will be trained for longer than it was here.

    Args:
        method: of the training that follows; the short ones before it are of adapters in any case.
        slm: the only server whose base models take part; by default all.
        terms: by default good enough is what the promised risk asks for.
        recipe: of the short fine-tunes, whose steps the bake-off sets.

    Raises:
        Conflict: no SLM server is configured, there is nothing to compare with or by, or what training needs is not
            installed.
        NoSuchThing: no such SLM server.
        Unprocessable: no base model can do the task, or be tried; the message says why.
        ArtifactMissing, ArtifactCorrupt: the dataset.
        DatabaseDown: called again, it goes on.
    """
    dataset = open_dataset(workshop, dataset_id)
    found, left_out = find_entrants(workshop, dataset, method, slm)
    if len(found) == 1:
        return _only(found[0], left_out)
    entrants, uncounted = by_cost(found)
    if len(entrants) == 1:
        return _only(entrants[0], [*left_out, *uncounted])
    words = [*left_out, *uncounted, *_sizes(entrants)]
    terms = terms or Terms(passes=1 - workshop.settings.risk)
    with trying(workshop, dataset, entrants, method, recipe or Recipe()) as tryout:
        bases = [each.base for each in entrants]
        baked = bake_off(bases, tryout.ask, tryout.train_and_score, terms, workshop.progress)
    record = (*words, *baked.record)
    if baked.winner is None:
        raise Unprocessable("; ".join(record))
    server = tryout.entrants[baked.winner].server.name
    return Choice(baked.winner, server, baked.passed, baked.scores, record)


def _only(entrant: Entrant, left_out: Sequence[str]) -> Choice:
    slm = entrant.server.name
    words = f"nothing to choose: {entrant.base}, at the SLM server {slm!r}, is the only base model there is to train on"
    return Choice(entrant.base, slm, None, (), (*left_out, words))


def _sizes(entrants: Sequence[Entrant]) -> list[str]:
    """What each costs, and which the rule knows nothing of."""
    return [
        f"{each.base}: {(each.parameters or 0) / 1e6:,.4g} million parameters a token, "
        + (each.known.licence if each.known else "not in the catalogue, so let in unseen")
        for each in entrants
    ]

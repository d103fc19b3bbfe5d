"""What the runs of each kind do, stage by stage. The heavy halves are imported when their stage begins.

Each function gets what was asked for and what the stages before found; its figures are kept beside the run, and a run
that goes on after its learner was killed begins behind the last stage that has some.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.learning.workshop import Workshop
from proxy.runs.queue import AUTO, RunKind, RunWish
from proxy.runs.stage_process import Figures, Stage


def learn(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    """The log into a snapshot in force."""
    from proxy.learning.discovery import learn_from_log

    found = learn_from_log(
        workshop.database,
        workshop.cipher,
        workshop.artifacts,
        workshop.progress,
        workshop.settings.encoder,
        actor="learner",
    )
    return {
        "snapshot_id": found.snapshot_id,
        "calls": found.calls,
        "clusters": found.clusters,
        "unassigned": found.unassigned,
        "damaged": found.damaged,
        "changes": [{"clusters": list(change.clusters), "in_words": change.in_words} for change in found.changes],
        "in_words": "; ".join(found.words),
    }


def make_dataset(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    """A task's calls into a dataset."""
    from proxy.learning.training import make_dataset as make

    assert wish.cluster is not None
    dataset_id = make(workshop, wish.cluster)
    return {"dataset_id": dataset_id, "in_words": f"dataset {dataset_id}"}


def choose_base(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    """Of the base models that are served, the one that is worth the training."""
    from proxy.bakeoff.choice import choose_base as choose

    choice = choose(workshop, done["make_dataset"]["dataset_id"], method=wish.method, slm=wish.slm)
    return {
        "base": choice.base,
        "slm": choice.slm,
        "passed": choice.passed,
        "scores": [{"base": each.model, "steps": each.steps, "score": each.score} for each in choice.scores],
        "words": list(choice.record),
        "in_words": "; ".join(choice.record),
    }


def fine_tune(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    """A dataset into an SLM."""
    from proxy.learning.training import fine_tune as tune

    dataset_id = done["make_dataset"]["dataset_id"]
    chosen = done.get("choose_base", {"base": wish.base, "slm": wish.slm})
    model = tune(workshop, dataset_id, base=chosen["base"], method=wish.method, name=wish.model, slm=chosen["slm"])
    return {"model": model, "in_words": f"trained {model}"}


def evaluate(workshop: Workshop, wish: RunWish, done: Mapping[str, Figures]) -> Figures:
    """Held-out calls, replayed against an SLM, into a certificate."""
    from proxy.proving.evaluation import evaluate as put_to_the_proof
    from proxy.proving.evaluation import in_words

    assert wish.cluster is not None
    model = done["fine_tune"]["model"] if "fine_tune" in done else wish.model
    assert model is not None
    certificate_id, certificate = put_to_the_proof(workshop, wish.cluster, model, slm=wish.slm)
    return {
        "certificate_id": certificate_id,
        "model": model,
        "passes": certificate.passes,
        "n": certificate.n,
        "failures": certificate.failures,
        "disagreement_bound": certificate.disagreement_bound,
        "coverage": certificate.coverage,
        "threshold": certificate.threshold,
        "in_words": in_words(certificate),
    }


def stages_of(wish: RunWish) -> tuple[Stage, ...]:
    """What a run goes through, by what was asked for alone: the same whenever it is gone on with.

    A change here that an interrupted run can't be gone on with needs another `runs.WORKFLOW_VERSION`.
    """
    if wish.kind is RunKind.LEARN:
        return (Stage("learn", learn),)
    if wish.kind is RunKind.EVALUATE:
        return (Stage("evaluate", evaluate),)
    choice = (Stage("choose_base", choose_base),) if wish.base == AUTO else ()
    return (Stage("make_dataset", make_dataset), *choice, Stage("fine_tune", fine_tune), Stage("evaluate", evaluate))

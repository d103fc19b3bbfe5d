"""A bake-off: which of the base models that the rule lets through is good enough for a task, tried out.

First every model answers some calls as it is. Then they are fine-tuned, each for a short time; the better half goes on
for twice as long, until one is left or the longest training is reached (successive halving: Jamieson and Talwalkar,
arXiv 1502.07943). The cheapest that passes wins, not the best: what passes will be certified anyway, and cost is what
the task is taken from the LLM for. So of those that pass, only the cheaper go on.

No input or output: asking and training are the caller's. Scores are shares of calls answered as the LLM did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Answers a task's calls with a base model as it is; gives the share that agree with the LLM's, in [0, 1].
Ask = Callable[[str], float]
#: Fine-tunes a base model for so many steps and gives the same of what comes of it.
TrainAndScore = Callable[[str, int], float]
Progress = Callable[[str], None]


class BaseUnfit(Exception):
    """What `Ask` and `TrainAndScore` raise for a base model that can't be asked or trained; the message says why."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a bake-off goes.

    Attributes:
        passes: score at which a model is good enough, in (0, 1].
        first_steps: of the first round; each round takes twice as many as the one before.
        rounds: at most.
    """

    passes: float = 0.95
    first_steps: int = 50
    rounds: int = 4


@dataclass(frozen=True, slots=True)
class Score:
    """What a model reached.

    Attributes:
        steps: of training; 0 for the base model as it is.
        score: in [0, 1]; None where it could not be tried.
        trouble: why not, in words.
    """

    model: str
    steps: int
    score: float | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class BakeOff:
    """How a bake-off went.

    Attributes:
        models: those that took part, cheapest first.
        scores: in the order in which they were found out.
        winner: None where nobody could be tried.
        passed: whether the winner is good enough; else it is the best there was.
    """

    terms: Terms
    models: tuple[str, ...]
    scores: tuple[Score, ...]
    winner: str | None
    passed: bool

    @property
    def record(self) -> list[str]:
        """In words, as lines of plain text."""
        if not self.models:
            return ["no base model fits the task and the hardware: there is none to try"]
        lines = [f"{len(self.models)} base models, cheapest first: {', '.join(self.models)}"]
        for score in self.scores:
            how = f"after {score.steps} steps" if score.steps else "as it is"
            if score.score is None:
                lines.append(f"{score.model} {how}: out, {score.trouble}")
            else:
                enough = ", enough" if score.score >= self.terms.passes else ""
                lines.append(f"{score.model} {how}: answers {score.score:.1%} as the LLM did{enough}")
        if self.winner is None:
            lines.append("none could be tried")
        elif self.passed:
            lines.append(f"taken: {self.winner}, the cheapest that reaches {self.terms.passes:.1%}")
        else:
            lines.append(f"none reaches {self.terms.passes:.1%}; the best was {self.winner}")
        return lines


def bake_off(
    models: Sequence[str],
    ask: Ask,
    train_and_score: TrainAndScore,
    terms: Terms | None = None,
    progress: Progress = lambda text: None,
) -> BakeOff:
    """Find the cheapest base model that is good enough.

    A model is out of the race when a cheaper one passes, when it is in the worse half of those that don't, or when it
    can't be tried. One that passes as it is needs no training to be chosen.

    Args:
        models: names, cheapest first, as the rule orders them.
        ask, train_and_score: raise `BaseUnfit` for a model that can't be tried.
        progress: told `bake-off: how far`.
    """
    terms = terms or Terms()
    scores: list[Score] = []
    best: dict[str, float] = {}
    left = list(models)
    for number in range(terms.rounds + 1):
        steps = terms.first_steps * 2 ** (number - 1) if number else 0
        failing: dict[str, float] = {}
        for place, model in enumerate(left, 1):
            progress(f"bake-off: round {number + 1}, {model} ({place} of {len(left)})")
            try:
                score = train_and_score(model, steps) if steps else ask(model)
            except BaseUnfit as unfit:
                scores.append(Score(model, steps, None, str(unfit)))
                best.pop(model, None)
                continue
            scores.append(Score(model, steps, score))
            best[model] = max(score, best.get(model, 0.0))
            if score >= terms.passes:
                break  # who comes after is dearer
            failing[model] = score
        left = _better_half(failing) if steps else list(failing)  # untrained scores say little of what can be learned
    winner = next((model for model in models if best.get(model, 0.0) >= terms.passes), None)
    if winner is not None:
        return BakeOff(terms, tuple(models), tuple(scores), winner, True)
    winner = max(best, key=lambda model: (best[model], -models.index(model)), default=None)
    return BakeOff(terms, tuple(models), tuple(scores), winner, False)


def _better_half(failing: dict[str, float]) -> list[str]:
    """Who is tried for longer, cheapest first; of equals, the cheaper."""
    better = sorted(failing, key=lambda model: failing[model], reverse=True)[: (len(failing) + 1) // 2]
    return [model for model in failing if model in better]

"""How to train. What a recipe leaves open follows from the model and the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """What is trained.

    LORA: matrices of low rank beside the base's linear layers (Hu et al., arXiv 2106.09685).
    QLORA: the same over a base in four bits (Dettmers et al., arXiv 2305.14314).
    FULL: every weight.
    """

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


#: (parameters, learning rate): between these, geometric; outside, the nearest. The small ends were measured on the
#: demo's model: with LoRA at 5e-3 it learned two of the demo's three tasks, at 3e-3 all of them. Of the large ones,
#: LoRA wants ten times what full fine-tuning does (Schulman et al., LoRA Without Regret, 2025).
_RATES = {
    Method.LORA: ((1e6, 3e-3), (1e9, 2e-4)),
    Method.QLORA: ((1e6, 3e-3), (1e9, 2e-4)),
    Method.FULL: ((1e6, 2e-3), (1e9, 2e-5)),
}
#: (parameters, steps): a model that has seen little of the world needs more of them. Measured on the demo's triage task
#: at a million parameters, 420 samples: 100 steps brought it to 30 %, 200 to 94 %.
_LEAST_STEPS = ((1e6, 300.0), (1e9, 100.0))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        learning_rate: at its highest; None: by the model's size.
        steps: updates of the weights; None: by `epochs`, and no fewer than `min_steps`.
        min_steps: None: by the model's size.
        batch: samples to a step.
        warmup: share of the steps in which the rate rises; it falls by a cosine afterwards.
        rank, alpha, dropout: of LoRA. vLLM takes ranks up to 16 unless told otherwise.
        packing: several samples to a row, which the attention keeps apart by their positions; saves the padding. None:
            where it does so at no cost, with flash attention.
        max_tokens: longer samples are left out, never cut: an answer to half a prompt teaches to guess. None: the
            model's context.
        min_samples: with fewer, training is refused.
        validation_share: of the conversations; early stopping looks at them. 0: none, and no early stopping.
        checks: how often in all the weights are kept, and the validation loss is measured.
        patience: checks without a better validation loss, after which training ends; the best weights are taken.
        distillation: what counts, where the log has the LLM's own token probabilities: 0 only what it said, 1 only how
            likely it found it. In [0, 1].
        seed: of the new weights and of the order of the samples.
    """

    learning_rate: float | None = None
    steps: int | None = None
    epochs: int = 3
    min_steps: int | None = None
    batch: int = 16
    warmup: float = 0.1
    weight_decay: float = 0.01
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    packing: bool | None = None
    max_tokens: int | None = None
    min_samples: int = 50
    validation_share: float = 0.1
    checks: int = 10
    patience: int = 3
    distillation: float = 0.5
    seed: int = 0

    def rate_for(self, parameters: int, method: Method) -> float:
        """The learning rate for a model of so many parameters."""
        return self.learning_rate or learning_rate(parameters, method)

    def steps_for(self, samples: int, parameters: int) -> int:
        """How many steps so many samples make for a model of so many parameters."""
        least = _between(_LEAST_STEPS, parameters) if self.min_steps is None else self.min_steps
        return self.steps or max(round(least), self.epochs * math.ceil(samples / self.batch))


def learning_rate(parameters: int, method: Method) -> float:
    """A rate that suits a model's size."""
    return _between(_RATES[method], parameters)


def _between(ends: tuple[tuple[float, float], tuple[float, float]], parameters: int) -> float:
    """A value for a model's size: geometric between the ends, the nearest end outside."""
    (small, first), (large, last) = ends
    place = math.log(max(small, min(parameters, large)) / small) / math.log(large / small)
    return float(first * (last / first) ** place)

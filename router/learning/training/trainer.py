"""TRL's trainer as it is used here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from router.learning.training.errors import Diverged, OutOfMemory
from router.learning.training.soft_targets import distilled_loss

_SOFT = ("soft_places", "soft_ids", "soft_probabilities")


class Trainer(SFTTrainer):  # type: ignore[misc]
    """Tells nobody what is trained here, and leaves model cards to `model_card.py`. Distils rows with soft targets."""

    data_collator: Any
    _signature_columns: Any

    def __init__(self, *, distillation: float, **kwargs: Any) -> None:
        """
        Args:
            distillation: the share of the loss that soft targets have where they are known.
        """
        self._distillation = distillation
        super().__init__(**kwargs)
        self.data_collator = _Collator(self.data_collator)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*dict.fromkeys([*self._signature_columns, *_SOFT])]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's own, unless the batch has soft targets: see `soft_targets.distilled_loss`."""
        where = inputs.pop("soft_where", None)
        if where is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        ids, probabilities, labels = inputs.pop("soft_ids"), inputs.pop("soft_probabilities"), inputs.pop("labels")
        outputs = model(**inputs, use_cache=False)
        loss = distilled_loss(outputs.logits, labels, where, ids, probabilities, self._distillation)
        loss = loss / ((labels >= 0).sum() if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _send_telemetry(self) -> None:
        """TRL tells Hugging Face of every training, unless this does nothing."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """One with every checkpoint is too many."""


class _Collator:
    """Makes a batch of rows as TRL does, and carries their soft targets along."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self._collate([{name: row[name] for name in row if name not in _SOFT} for row in rows])
        if any(row.get("soft_ids") for row in rows):
            where = [(number, place) for number, row in enumerate(rows) for place in row["soft_places"]]
            batch["soft_where"] = torch.tensor(where)
            for name in _SOFT[1:]:
                batch[name] = torch.tensor([value for row in rows for value in row[name]])
        return batch


class Follower(TrainerCallback):  # type: ignore[misc]
    """Follows a training: says how far it is and how long it will take, and ends one that has diverged.

    Attributes:
        losses: (step, mean loss since the one before) of the training samples.
        validation_losses: (step, loss) of the conversations kept for early stopping.
    """

    def __init__(self, vocabulary: int, progress: Callable[[str], None]) -> None:
        """
        Args:
            vocabulary: how many tokens there are to guess from.
            progress: told `training: how far`.
        """
        self.losses: list[tuple[int, float]] = []
        self.validation_losses: list[tuple[int, float]] = []
        self._guessing = math.log(vocabulary) + 1
        self._progress = progress
        self._begun = (0.0, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note when, and at which step where it goes on."""
        self.losses = [(row["step"], row["loss"]) for row in state.log_history if "loss" in row]
        self.validation_losses = [(row["step"], row["eval_loss"]) for row in state.log_history if "eval_loss" in row]
        self._begun = (time.monotonic(), state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell how far it is."""
        began, first = self._begun
        done = state.global_step - first
        left = (time.monotonic() - began) / done * (state.max_steps - state.global_step)
        loss = f", loss {self.losses[-1][1]:.3f}" if self.losses else ""
        self._progress(f"training: step {state.global_step} of {state.max_steps}{loss}, {_duration(left)} left")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Note the loss.

        Raises:
            Diverged: it is no number, or worse than guessing every token would be, and than it was at first.
        """
        if "eval_loss" in logs:
            self.validation_losses.append((state.global_step, logs["eval_loss"]))
        if "loss" not in logs:
            return
        loss = logs["loss"]
        worst = max(self._guessing, 1.5 * self.losses[0][1]) if self.losses else math.inf
        if not math.isfinite(loss) or loss > worst:
            raise Diverged(
                f"training diverged: the loss is {loss:.3g} at step {state.global_step} of {state.max_steps}, at a "
                f"learning rate of {args.learning_rate:.2g}; take a lower one"
            )
        self.losses.append((state.global_step, loss))


@contextmanager
def memory_errors_named() -> Iterator[None]:
    """Raise running out of memory as what it is, on a GPU and on a CPU.

    Raises:
        OutOfMemory
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_out_of_memory(error)) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what torch's allocator says on a CPU has no class of its own
            raise
        raise OutOfMemory(_out_of_memory(error)) from error


def _out_of_memory(error: BaseException) -> str:
    said = (str(error).strip().splitlines() or ["no memory"])[0]
    return (
        f"out of memory: {said}. Take a smaller base model, qlora, or leave out long calls (a lower max_tokens in the "
        "recipe)"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

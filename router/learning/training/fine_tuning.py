"""The way through: samples, a base model and a recipe in, an adapter or a whole model out.

All work is done in a draft beside its place: what lies in place is whole. A draft keeps checkpoints: called again with
the same arguments, training goes on from the last one, whatever killed it. What fails for a reason of its own leaves
nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from trl import SFTConfig

from router.learning.curation.samples import Sample
from router.learning.training.base import Base, compute_dtype, open_base, require
from router.learning.training.errors import TooFewSamples, TrainingFailed
from router.learning.training.model_card import ModelCard, versions
from router.learning.training.quiet import quiet
from router.learning.training.recipe import Method, Recipe
from router.learning.training.rendering import Rendered, Renderer, Unfit
from router.learning.training.threads import threads_for
from router.learning.training.trainer import Follower, Trainer, memory_errors_named
from router.learning.training.validation import validation_conversations
from router.learning.training.weights import weights_digest

Progress = Callable[[str], None]

#: Tokens to a pass through the model, padding included; the rest of a batch follows in further passes.
PASS_TOKENS = 16_384
#: The same where the LLM's probabilities are learned: that takes a number for each token of the vocabulary.
DISTILLED_PASS_TOKENS = 4096
#: From this size on memory is dearer than time: activations are computed twice rather than kept.
RECOMPUTING_PARAMETERS = 500_000_000

_STATE = "trainer_state.json"  # the last file that a checkpoint gets


def fine_tune(
    base: str | Path,
    out: Path,
    samples: Sequence[Sample],
    *,
    method: Method = Method.LORA,
    recipe: Recipe | None = None,
    task: str = "a task",
    origin: str | None = None,
    progress: Progress = lambda text: None,
) -> ModelCard:
    """Fine-tune a base model on one task's samples. On a GPU where there is one.

    Args:
        base: directory or hub name.
        out: directory of the result; made. For `lora` and `qlora` an adapter as vLLM loads it, for `full` a model with
            its tokeniser. Beside it, its model card.
        samples: of the training part only; some of their conversations serve early stopping.
        task, origin: what the model card says of the samples.
        progress: told `stage: how far`, with the time left.

    Returns:
        The model card. Where `out` was made by the same arguments before, and is still whole, that one's.

    Raises:
        TrainingFailed: see `errors.py`. Neither result nor draft is left.
        FileExistsError: `out` holds something else.
    """
    recipe = recipe or Recipe()
    require(method)
    _require(len(samples), recipe, Counter())
    opened = open_base(str(base))
    asked: dict[str, Any] = {
        "dataset": _digest(samples),
        "base": opened.name,
        "base_weights": weights_digest(opened.path),
        "method": method.value,
        "recipe": asdict(recipe),
    }
    key = sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    draft = _Draft(out.with_name(f".{out.name}.draft"), key)
    if out.exists():
        card = ModelCard.read(out)
        if card is None or card.key != key:
            raise FileExistsError(f"{out} holds another model; give the new one another name")
        if card.weights != _weights(opened, out, method):
            raise FileExistsError(f"{out} no longer holds what was trained: remove it, and train again")
        draft.remove()  # a kill may have come between the last two lines
        return card
    draft.begin()
    try:
        with quiet(), memory_errors_named(), threads_for(opened.parameters):
            course = _train(opened, draft, samples, method, recipe, progress)
    except TrainingFailed:
        draft.remove()
        raise
    progress("writing the model")
    card = ModelCard(
        key=key,
        task=task,
        origin=origin,
        licence=opened.licence,
        versions=versions(),
        weights=_weights(opened, draft.result, method),
        **asked,
        **asdict(course),
    )
    card.write(draft.result)
    draft.result.rename(out)
    draft.remove()
    return card


@dataclass(frozen=True, slots=True)
class _Draft:
    """Where a model is made.

    Attributes:
        key: hash of what it is made of; a draft of something else is of no use.
    """

    path: Path
    key: str

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        return self.path / "result"

    def begin(self) -> None:
        """Make it, or take up the one that is there, if it is of the same key."""
        note = self.path / "key"
        if not note.exists() or note.read_text() != self.key:
            self.remove()
            self.path.mkdir(parents=True, mode=0o700)
            note.write_text(self.key)
        shutil.rmtree(self.result, ignore_errors=True)

    def checkpoint(self) -> Path | None:
        """The last whole checkpoint; what a kill left of a later one is removed."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        while found and not _is_json(found[-1] / _STATE):
            shutil.rmtree(found.pop())
        return found[-1] if found else None

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Course:
    """How a training went; see `ModelCard`."""

    samples: Mapping[str, int]
    settings: Mapping[str, Any]
    losses: tuple[tuple[int, float], ...]
    validation_losses: tuple[tuple[int, float], ...]
    best_step: int
    seconds: float


def _train(
    base: Base, draft: _Draft, samples: Sequence[Sample], method: Method, recipe: Recipe, progress: Progress
) -> _Course:
    """Train, and save the model as the draft's result.

    Raises:
        TrainingFailed
    """
    began = time.monotonic()
    train, validation, unfit = _rendered(base, samples, recipe, progress)
    progress("loading the base model")
    model = base.model(method)
    soft = sum(len(each.soft) for each in train) if recipe.distillation and not recipe.packing else 0
    packs = "flash" in str(model.config._attn_implementation) and not soft if recipe.packing is None else recipe.packing
    plan = _plan(base, train, method, recipe, packs, soft)
    follower = Follower(len(base.tokenizer), progress)
    trainer = _trainer(base, model, plan, train, validation, draft, method, recipe, follower)
    checkpoint = draft.checkpoint()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if method is Method.FULL:
        base.tokenizer.save_pretrained(draft.result)
    else:
        trainer.model.peft_config["default"].base_model_name_or_path = base.name
    trainer.model.save_pretrained(draft.result)
    settings = asdict(plan) | {
        "parameters": base.parameters,
        "context_tokens": base.context_tokens,
        "device": str(trainer.args.device),
    }
    if method is not Method.FULL:
        settings |= {"rank": recipe.rank, "alpha": recipe.alpha}
    return _Course(
        samples={"trained": len(train), "validated": len(validation)} | {each.value: unfit[each] for each in unfit},
        settings=settings | {"steps_done": trainer.state.global_step},
        losses=tuple(follower.losses),
        validation_losses=tuple(follower.validation_losses),
        best_step=trainer.state.best_global_step or trainer.state.global_step,
        seconds=round(time.monotonic() - began, 1),
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A recipe for one model and its samples.

    Attributes:
        rows_a_pass, passes_a_step: a row is a sample, or several where they are packed.
        row_tokens: the longest.
        distilled_tokens: those of all samples that are learned with the LLM's own probabilities.
        check_steps: between two checkpoints.
    """

    steps: int
    learning_rate: float
    rows_a_pass: int
    passes_a_step: int
    row_tokens: int
    packed: bool
    distilled_tokens: int
    check_steps: int


def _plan(base: Base, train: Sequence[Rendered], method: Method, recipe: Recipe, packs: bool, soft: int) -> _Plan:
    """Fill in what the recipe leaves open.

    Args:
        packs: whether a row takes several samples: about as many as a batch has, if they fit a pass.
        soft: tokens with the LLM's probabilities, which are learned.
    """
    pass_tokens = DISTILLED_PASS_TOKENS if soft else PASS_TOKENS
    longest = max(map(len, train))
    rows = recipe.batch
    if packs:
        batch_tokens = recipe.batch * sum(map(len, train)) // len(train)
        longest = max(longest, min(pass_tokens, batch_tokens))
        rows = max(1, round(batch_tokens / longest))
    rows_a_pass = max(1, min(rows, pass_tokens // longest))
    steps = recipe.steps_for(len(train), base.parameters)
    return _Plan(
        steps=steps,
        learning_rate=recipe.rate_for(base.parameters, method),
        rows_a_pass=rows_a_pass,
        passes_a_step=-(-rows // rows_a_pass),
        row_tokens=longest,
        packed=packs,
        distilled_tokens=soft,
        check_steps=max(1, steps // recipe.checks),
    )


def _trainer(
    base: Base,
    model: Any,
    plan: _Plan,
    train: Sequence[Rendered],
    validation: Sequence[Rendered],
    draft: _Draft,
    method: Method,
    recipe: Recipe,
    follower: Follower,
) -> Trainer:
    in_bfloat16 = compute_dtype() is torch.bfloat16
    checks: dict[str, Any] = {
        "eval_strategy": "steps",
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
    }
    config = SFTConfig(
        output_dir=str(draft.checkpoints),
        max_steps=plan.steps,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,  # below 1: a share
        weight_decay=recipe.weight_decay,
        per_device_train_batch_size=plan.rows_a_pass,
        per_device_eval_batch_size=plan.rows_a_pass,
        gradient_accumulation_steps=plan.passes_a_step,
        gradient_checkpointing=in_bfloat16 and base.parameters >= RECOMPUTING_PARAMETERS,
        packing=plan.packed,
        max_length=plan.row_tokens,
        dataset_kwargs={"skip_prepare_dataset": not plan.packed},  # samples come as tokens and labels
        save_steps=plan.check_steps,
        save_total_limit=2,
        eval_steps=plan.check_steps,
        **(checks if validation else {}),
        prediction_loss_only=True,
        logging_steps=max(1, plan.check_steps // 5),
        logging_nan_inf_filter=False,  # it would hide a divergence
        seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=in_bfloat16,
        disable_tqdm=True,
        report_to="none",
    )
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    callbacks: list[TrainerCallback] = [follower]
    if validation:
        callbacks.append(EarlyStoppingCallback(recipe.patience))
    trainer = Trainer(
        distillation=recipe.distillation,
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list(
            [each.soft_row() if plan.distilled_tokens else each.row() for each in train]
        ),
        eval_dataset=datasets.Dataset.from_list([each.row() for each in validation]) if validation else None,
        processing_class=base.tokenizer,
        peft_config=None if method is Method.FULL else lora,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _rendered(
    base: Base, samples: Sequence[Sample], recipe: Recipe, progress: Progress
) -> tuple[list[Rendered], list[Rendered], Counter[Unfit]]:
    """Samples to train on and to validate by, as tokens, and how many fit neither.

    Raises:
        TooFewSamples, ToolsUnrenderable
    """
    limit = min(recipe.max_tokens or base.context_tokens, base.context_tokens)
    renderer = Renderer(base.tokenizer, base.stops, limit)
    fit, unfit = renderer.render_all(samples, lambda done: progress(f"rendering: {done} of {len(samples)} samples"))
    _require(len(fit), recipe, unfit)
    kept = validation_conversations([sample.conversation for sample, _ in fit], recipe.validation_share, recipe.seed)
    train = [rendered for sample, rendered in fit if sample.conversation not in kept]
    validation = [rendered for sample, rendered in fit if sample.conversation in kept]
    return train, validation, unfit


def _require(samples: int, recipe: Recipe, unfit: Counter[Unfit]) -> None:
    """See that there is enough to learn from.

    Raises:
        TooFewSamples
    """
    if samples >= max(1, recipe.min_samples):
        return
    words = f"there are {samples} samples to train on, and {recipe.min_samples} are needed"
    if unfit:
        words += "; left out: " + ", ".join(f"{count} {reason.value}" for reason, count in unfit.items())
    raise TooFewSamples(words)


def _digest(samples: Sequence[Sample]) -> str:
    digest = sha256()
    for sample in samples:
        digest.update(json.dumps([sample.conversation, sample.to_openai(), *map(asdict, sample.weighed)]).encode())
    return digest.hexdigest()


def _weights(base: Base, result: Path, method: Method) -> str:
    """The hash of what was trained: of a whole model, or of an adapter with its base."""
    return weights_digest(result) if method is Method.FULL else weights_digest(base.path, result)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True

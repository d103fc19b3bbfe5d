"""What was trained on what, by which means, and how it went: for programs as JSON, for people as Markdown."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CARD = "model-card.json"
PAGE = "README.md"
_LIBRARIES = ("understudy", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "datasets")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A fine-tuned model.

    Attributes:
        key: hash of everything that it was asked to be made of; the same arguments have the same key.
        task: what the samples are of.
        origin: where the samples are kept; None where the caller didn't say.
        dataset: hash of the samples.
        base, base_weights, licence: the model it began as; the licence None where its own card doesn't say.
        recipe: as it was given; what that left open is in `settings`.
        settings: steps, learning rate, batch and so on as they came out.
        samples: how many trained, how many validated, and how many were left out, by reason.
        losses, validation_losses: (step, loss).
        best_step: whose weights these are.
        answer_tokens: (shortest, mean, longest).
        versions: of Python and of every library that has a part in it.
        weights: hash of base and result.
        seconds: of the last stretch, if it was taken up again.
    """

    key: str
    task: str
    origin: str | None
    dataset: str
    method: str
    base: str
    base_weights: str
    licence: str | None
    recipe: Mapping[str, Any]
    settings: Mapping[str, Any]
    samples: Mapping[str, int]
    losses: tuple[tuple[int, float], ...]
    validation_losses: tuple[tuple[int, float], ...]
    best_step: int
    versions: Mapping[str, str]
    weights: str
    seconds: float

    def write(self, directory: Path) -> None:
        """As JSON and as Markdown beside the weights."""
        (directory / CARD).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (directory / PAGE).write_text(self.page(), encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> ModelCard | None:
        """The card beside a model's weights; None where there is none."""
        try:
            kept = json.loads((directory / CARD).read_text(encoding="utf-8"))
            for name in ("losses", "validation_losses"):
                kept[name] = tuple((step, loss) for step, loss in kept[name])
            return cls(**kept)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def page(self) -> str:
        """For people."""
        lines = [
            f"# {self.base}, fine-tuned for {self.task}",
            "",
            f"Made by Understudy by {self.method}, for one narrow task. It is good for nothing else, and whether it is "
            "good for that, a certificate says, not this page.",
            "",
            "| | |",
            "| --- | --- |",
            f"| base model | {self.base} (SHA-256 {self.base_weights[:16]}…) |",
            f"| licence of the base model | {self.licence or 'not said by its model card'} |",
            f"| dataset | {self.dataset} |",
        ]
        lines += [f"| {name} | {count} |" for name, count in self.samples.items()]
        lines += [f"| {name} | {value} |" for name, value in self.settings.items()]
        lines += [f"| weights | SHA-256 {self.weights} |", ""]
        lines += ["| step | loss | validation loss |", "| --: | --: | --: |"]
        validation = dict(self.validation_losses)
        shown = {step: loss for step, loss in self.losses if step in validation or not validation}
        for step in sorted({*shown, *validation}):
            cells = [f"{part[step]:.4f}" if step in part else "" for part in (shown, validation)]
            lines.append(f"| {step} | {cells[0]} | {cells[1]} |")
        lines += ["", f"These are the weights of step {self.best_step}.", ""]
        lines += [", ".join(f"{name} {number}" for name, number in self.versions.items()), ""]
        return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of Python and the libraries that have a part in training."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found

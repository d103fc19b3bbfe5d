"""The rule: who can't do a task on some hardware is left out, each with its reasons; the rest by cost.

A model that is left out stays out when the task asks for more or the GPU has less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from router.learning.selection.catalogue import MANY, OpenModel
from router.learning.selection.memory import GIB, Memory, memory_of
from router.learning.selection.needs import Hardware, Needs

#: Languages that are not written in Latin letters → their scripts, as `router.scripts` names them.
_SCRIPTS = {
    "am": "ethiopic", "ar": "arabic", "be": "cyrillic", "bg": "cyrillic", "bn": "bengali", "el": "greek",
    "fa": "arabic", "gu": "gujarati", "he": "hebrew", "hi": "devanagari", "hy": "armenian", "ja": "kana han",
    "ka": "georgian", "kk": "cyrillic", "km": "khmer", "kn": "kannada", "ko": "hangul", "lo": "lao",
    "mk": "cyrillic", "ml": "malayalam", "mn": "cyrillic", "mr": "devanagari", "ne": "devanagari", "pa": "gurmukhi",
    "ru": "cyrillic", "si": "sinhala", "sr": "cyrillic", "ta": "tamil", "te": "telugu", "th": "thai",
    "uk": "cyrillic", "ur": "arabic", "zh": "han",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fitting:
    """A model that may try."""

    model: OpenModel
    memory: Memory


@dataclass(frozen=True, slots=True)
class Excluded:
    """A model that is left out.

    Attributes:
        reasons: all that apply, in words.
    """

    model: OpenModel
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the rule says.

    Attributes:
        fitting: cheapest first.
        excluded: in the order of the catalogue.
    """

    needs: Needs
    hardware: Hardware
    fitting: tuple[Fitting, ...]
    excluded: tuple[Excluded, ...]


def select(models: Iterable[OpenModel], needs: Needs, hardware: Hardware) -> Selection:
    """Apply the rule.

    Cost is what a token costs in arithmetic; among equals what a model takes in memory, then its name.
    """
    fitting: list[Fitting] = []
    excluded: list[Excluded] = []
    for model in models:
        memory = memory_of(model, hardware.precision, needs.context_tokens, hardware.calls, hardware.adapters)
        reasons = (*lacks(model, needs), *_unservable(model, memory, needs, hardware))
        if reasons:
            excluded.append(Excluded(model, reasons))
        else:
            fitting.append(Fitting(model, memory))
    fitting.sort(key=lambda fit: (fit.model.token_parameters, fit.memory.total, fit.model.name))
    return Selection(needs, hardware, tuple(fitting), tuple(excluded))


def lacks(model: OpenModel, needs: Needs) -> Iterator[str]:
    """What the task needs and the model has not, in words."""
    if needs.context_tokens > model.context_tokens:
        yield f"calls of {needs.context_tokens:,} tokens don't fit its context of {model.context_tokens:,}"
    if needs.tools and not model.tools:
        yield "it is not trained to call tools"
    if needs.json and not model.json:
        yield "it can't be held to a JSON schema"
    if MANY not in model.languages:
        foreign = sorted(needs.languages.difference(model.languages))
        if foreign:
            yield f"it is not made for {', '.join(foreign)}"
        written = {script for language in model.languages for script in _SCRIPTS.get(language, "latin").split()}
        unwritten = sorted(needs.scripts - written)
        if unwritten:
            yield f"it is made for no language in {', '.join(unwritten)} script"
    if needs.licences is not None and model.licence not in needs.licences:
        yield f"its licence, {model.licence}, is not among {', '.join(sorted(needs.licences)) or 'those allowed: none'}"


def _unservable(model: OpenModel, memory: Memory, needs: Needs, hardware: Hardware) -> Iterator[str]:
    """Why the hardware can't serve it."""
    if hardware.adapters and not model.lora:
        yield "vLLM serves no LoRA adapters on it"
    if memory.total > hardware.usable_bytes:
        usable = f"{hardware.usable_bytes / GIB:.1f} of {hardware.gpu_gib:.1f} GiB"
        yield f"it takes {memory_words(memory, needs, hardware)}; {usable} can be used"


def memory_words(memory: Memory, needs: Needs, hardware: Hardware) -> str:
    """The sum and what it is made of."""
    parts = [
        f"weights in {hardware.precision.value} {memory.weights / GIB:.1f}",
        f"cache of {hardware.calls} calls of {needs.context_tokens:,} tokens {memory.cache / GIB:.1f}",
        f"adapters ({hardware.adapters}) {memory.adapters / GIB:.1f}",
        f"runtime {memory.runtime / GIB:.1f}",
    ]
    return f"{memory.total / GIB:.1f} GiB by rule ({', '.join(parts)})"

"""A selection in words: why this one."""

from __future__ import annotations

from collections.abc import Iterator

from router.learning.selection.needs import Hardware, Needs
from router.learning.selection.rule import Selection, memory_words


def record(selection: Selection) -> list[str]:
    """The record of a selection, as lines of plain text; the same for the same selection."""
    return list(_lines(selection))


def _lines(selection: Selection) -> Iterator[str]:
    needs, hardware = selection.needs, selection.hardware
    yield f"the task needs {_needs(needs)}"
    yield f"the hardware: {_hardware(hardware)}"
    known = len(selection.fitting) + len(selection.excluded)
    if not selection.fitting:
        yield f"none of {known} models fits"
    for place, fit in enumerate(selection.fitting, 1):
        size = f"{fit.model.token_parameters / 1e9:.2f} billion parameters a token"
        why = f"first to try, the cheapest of {len(selection.fitting)} that fit" if place == 1 else f"then, {place}."
        yield f"{why}: {fit.model.name}: {size}, {memory_words(fit.memory, needs, hardware)}, {fit.model.licence}"
    for left in selection.excluded:
        yield f"left out: {left.model.name}: {'; '.join(left.reasons)}"


def _needs(needs: Needs) -> str:
    words = [f"{needs.context_tokens:,} tokens of context for prompt and answer"]
    if needs.tools:
        words.append("tool calls")
    if needs.json:
        words.append("JSON by a schema")
    if needs.languages:
        words.append(f"the languages {', '.join(sorted(needs.languages))}")
    if needs.scripts:
        words.append(f"{', '.join(sorted(needs.scripts))} script")
    if needs.licences is None:
        words.append("any licence")
    else:
        words.append(f"one of the licences {', '.join(sorted(needs.licences)) or '(none)'}")
    return "; ".join(words)


def _hardware(hardware: Hardware) -> str:
    words = f"a GPU with {hardware.gpu_gib:.1f} GiB, weights in {hardware.precision.value}"
    return f"{words}, {hardware.adapters} adapters, {hardware.calls} calls at once"

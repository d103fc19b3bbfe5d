"""Names for tasks that a person recognises, from the skeleton and the contract alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from router.contract import ContractKind, OutputContract

MAX_CHARS = 60
_IDENTITY = re.compile(r"^\s*(?:you are|you're|act as|i want you to act as|your name is)\s+(?:an?\s+|the\s+)?", re.I)
_IMPERATIVE = re.compile(
    r"^(?:please\s+)?(?:answer|analy[sz]e|assign|choose|classify|compare|complete|convert|create|decide|describe|detect|"
    r"evaluate|explain|extract|fill|find|generate|give|identify|improve|judge|list|plan|provide|rank|rate|read|rewrite|"
    r"review|score|select|solve|sort|summari[sz]e|translate|use|verify|write)\b",
    re.I,
)


def label(lines: Sequence[str], contract: OutputContract) -> str:
    """Name a task.

    Args:
        lines: recurring lines of its prompts, in order.
        contract: the form of its answers.
    """
    return f"{_subject(lines)[: MAX_CHARS - 18].strip()} → {_form(contract)}"


def distinct(labels: Sequence[str]) -> list[str]:
    """Number those that occur more than once."""
    total, seen = Counter(labels), Counter[str]()
    result: list[str] = []
    for name in labels:
        seen[name] += 1
        result.append(f"{name} ({seen[name]})" if total[name] > 1 else name)
    return result


def _subject(lines: Sequence[str]) -> str:
    """Who is speaking ("triage desk of an online shop"), else what is to be done, else the first line."""
    words = [line for line in lines if re.search(r"[A-Za-z]{3}", line)]
    for line in words:
        if _IDENTITY.match(line):
            subject = re.split(r"[.,;:(\n]", _IDENTITY.sub("", line), maxsplit=1)[0].strip()
            if subject:
                return subject
    for line in words:
        if _IMPERATIVE.match(line):
            return re.split(r"[.;:(\n]", line, maxsplit=1)[0].strip()
    return words[0].strip("#*- ") if words else "calls without a template"


def _form(contract: OutputContract) -> str:
    match contract.kind:
        case ContractKind.TOOL_CALL:
            names = sorted(contract.tools)
            return names[0][:16] if len(names) == 1 else f"one of {len(names)} tools"
        case ContractKind.JSON:
            return "JSON"
        case ContractKind.LABEL:
            return f"{len(contract.labels)} labels"
    return "text"

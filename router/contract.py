"""The induced form of a task's answers: enforced when an SLM generates, checked afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ContractKind(StrEnum):
    """Forms of answers, strictest first."""

    TOOL_CALL = "tool_call"
    JSON = "json"
    LABEL = "label"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class OutputContract:
    """How every answer of a task looks.

    Attributes:
        kind: which of the fields below apply.
        schema: JSON: the JSON schema of the whole answer.
        tools: TOOL_CALL: tool name → JSON schema of its arguments.
        labels: LABEL: the closed set of answers, stripped.
        min_chars, max_chars: TEXT: bounds on the answer's length.
        languages: TEXT: scripts seen (`latin`, `cyrillic`, `han`, …); an answer in another one breaks the contract.
        support: how many answers it was induced from.
    """

    kind: ContractKind
    schema: dict[str, Any] | None = None
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    min_chars: int = 0
    max_chars: int | None = None
    languages: tuple[str, ...] = ()
    support: int = 0

"""What a task asks of a model, and what there is to serve it with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from router.contract import ContractKind, OutputContract
from router.learning.selection.memory import GIB, USABLE_SHARE, Precision

#: Lengths are counted with the LLM's tokeniser; those of small models have fewer words and need more tokens.
TOKENISER_MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks of a model.

    Attributes:
        context_tokens: prompt and answer of a long call.
        tools: answers may be tool calls.
        json: answers keep to a JSON schema.
        languages: ISO 639 codes; all of them.
        scripts: that answers are written in, as `router.scripts` names them; a language of each.
        licences: that are acceptable; None for any.
    """

    context_tokens: int
    tools: bool = False
    json: bool = False
    languages: frozenset[str] = frozenset()
    scripts: frozenset[str] = frozenset()
    licences: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A GPU and its load.

    Attributes:
        gpu_bytes: its memory.
        adapters: LoRA adapters beside the model, one for each task; 0 for a model that is served as it is.
        calls: answered at once.
        precision: of the weights.
    """

    gpu_bytes: int
    adapters: int = 1
    calls: int = 8
    precision: Precision = Precision.BF16

    @property
    def usable_bytes(self) -> int:
        """What vLLM takes of it."""
        return int(self.gpu_bytes * USABLE_SHARE)

    @property
    def gpu_gib(self) -> float:
        """Its memory in GiB."""
        return self.gpu_bytes / GIB


def needs_of(
    contract: OutputContract,
    longest_call_tokens: int,
    languages: frozenset[str] = frozenset(),
    licences: frozenset[str] | None = None,
) -> Needs:
    """A task's needs.

    Args:
        contract: the form of its answers.
        longest_call_tokens: prompt and answer of a long call, by the LLM's tokeniser.
        languages, licences: as the operator wishes; no contract knows them.
    """
    return Needs(
        context_tokens=math.ceil(longest_call_tokens * TOKENISER_MARGIN),
        tools=bool(contract.tools) or contract.kind is ContractKind.TOOL_CALL,
        json=contract.kind is ContractKind.JSON,
        languages=languages,
        scripts=frozenset(contract.languages),
        licences=licences,
    )

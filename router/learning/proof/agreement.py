"""Do two answers agree? One comparator per output contract; the reference is the LLM's answer, the other the SLM's.

A reference that can't be read (cut off, not JSON where JSON is due, empty) is *incomparable*: it is no measure for
anybody. An answer that can't be read next to a reference that can *disagrees*. Between readable answers every
comparator is symmetric, and every readable answer agrees with itself.

Reasons never hold a part of an answer, so that they may be logged and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from router.contract import Answer, ContractKind, OutputContract
from router.learning.proof.json_values import Unreadable, canonical, completed, differences, parse, pointer

_WRAPPING = " \t\r\n\"'`*.,;:!()[]"


class Outcome(StrEnum):
    """What a comparison says."""

    AGREE = "agree"
    DISAGREE = "disagree"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison's outcome and its reason.

    Attributes:
        outcome: agree, disagree or incomparable.
        reason: one line without any of the answers' text.
        fields: JSON and tool calls: where the two differ, as JSON pointers (RFC 6901); empty when they agree. Unlike
            the reason they hold keys that a model may have made up.
    """

    outcome: Outcome
    reason: str
    fields: tuple[str, ...] = ()


class Comparator(Protocol):
    """Compares two answers to one request."""

    @property
    def name(self) -> str:
        """What the certificate calls it."""
        ...

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare an SLM's answer with the LLM's."""
        ...


def comparator_for(contract: OutputContract, text: Comparator) -> Comparator:
    """The comparator of a contract.

    Args:
        contract: of the task; as `router.contract.contract_for` gives it, when the call's own schemas are to count.
        text: compares free text: `router.learning.proof.judge` has two.
    """
    match contract.kind:
        case ContractKind.TOOL_CALL:
            return ToolCalls(contract.tools)
        case ContractKind.JSON:
            return OrToolCalls(Json(contract.schema), contract.tools)
        case ContractKind.LABEL:
            return OrToolCalls(Label(contract.labels), contract.tools)
        case ContractKind.TEXT:
            return OrToolCalls(text, contract.tools)


class Label:
    """Labels are equal, but for case, white space and the marks that models wrap them in.

    Where two labels of the contract would become one by that, only white space around them is ignored.
    """

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        """Take the closed set; an answer outside it is compared like any other."""
        self._exact = len({plain(label) for label in labels}) < len(set(labels)) or "" in map(plain, labels)

    @property
    def name(self) -> str:
        """What the certificate calls it."""
        return "label: exact" if self._exact else "label: normalised"

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare the texts."""
        left, right = self._read(reference), self._read(answer)
        if not left:
            return Verdict(Outcome.INCOMPARABLE, "the reference is empty")
        return _same("label", left == right)

    def _read(self, answer: Answer) -> str:
        return answer.text.strip() if self._exact else plain(answer.text)


def plain(text: str) -> str:
    """A label without what doesn't tell labels apart: case, compatibility forms, white space, wrapping marks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"\s+", " ", folded).strip(_WRAPPING)


class Json:
    """JSON values are equal: keys in any order, 1 equal to 1.0 but not to true."""

    name = "json: structural"

    def __init__(self, schema: dict[str, Any] | None = None) -> None:
        """Take the schema whose defaults fill what an answer leaves out; None for none."""
        self._schema = schema or {}

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare the texts as JSON."""
        try:
            left = completed(parse(reference.text), self._schema)
        except Unreadable as error:
            return Verdict(Outcome.INCOMPARABLE, f"the reference is {error}")
        try:
            right = completed(parse(answer.text), self._schema)
        except Unreadable as error:
            return Verdict(Outcome.DISAGREE, f"the answer is {error}")
        places = tuple(differences(left, right))
        if places:
            return Verdict(Outcome.DISAGREE, f"differs in {len(places)} places", places)
        return Verdict(Outcome.AGREE, "json equal")


class ToolCalls:
    """The same tools with equal arguments, in any order; what is said beside the calls does not count."""

    name = "tool calls: name and arguments"

    def __init__(self, tools: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Take the tools: name → JSON schema of the arguments, whose defaults fill what a call leaves out."""
        self._tools = tools or {}

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare the calls as multisets."""
        try:
            left = self._read(reference)
        except Unreadable as error:
            return Verdict(Outcome.INCOMPARABLE, f"the reference has {error}")
        try:
            right = self._read(answer)
        except Unreadable as error:
            return Verdict(Outcome.DISAGREE, f"the answer has {error}")
        if Counter(name for name, _ in left) != Counter(name for name, _ in right):
            return Verdict(Outcome.DISAGREE, "calls other tools")
        if Counter((name, canonical(value)) for name, value in left) == Counter(
            (name, canonical(value)) for name, value in right
        ):
            return Verdict(Outcome.AGREE, "tool calls equal")
        return Verdict(Outcome.DISAGREE, "calls the same tools with other arguments", self._places(left, right))

    def _read(self, answer: Answer) -> list[tuple[str, Any]]:
        if not answer.tool_calls:
            raise Unreadable("no tool call")
        calls = []
        for call in answer.tool_calls:
            arguments = parse(call.arguments.strip() or "{}")
            if isinstance(arguments, str):  # some servers encode the arguments twice
                arguments = parse(arguments)
            if not isinstance(arguments, dict):
                raise Unreadable("arguments that are no object")
            calls.append((call.name, completed(arguments, self._tools.get(call.name, {}))))
        return calls

    def _places(self, left: list[tuple[str, Any]], right: list[tuple[str, Any]]) -> tuple[str, ...]:
        """Where single calls differ; with several of one tool there is no saying which belong together."""
        unique = Counter(name for name, _ in left)
        others = dict(right)
        return tuple(
            f"{pointer(name)}{place}"
            for name, value in left
            if unique[name] == 1
            for place in differences(value, others[name])
        )


class OrToolCalls:
    """Another comparator, for tasks whose answers may be tool calls instead."""

    def __init__(self, otherwise: Comparator, tools: Mapping[str, dict[str, Any]]) -> None:
        """Take the comparator for answers that are no calls, and the tools as in `ToolCalls`."""
        self._otherwise = otherwise
        self._calls = ToolCalls(tools)

    @property
    def name(self) -> str:
        """What the certificate calls it."""
        return self._otherwise.name

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        """Compare calls with calls and the rest with the rest."""
        if not reference.tool_calls and not reference.text.strip():
            return Verdict(Outcome.INCOMPARABLE, "the reference is empty")
        if bool(reference.tool_calls) != bool(answer.tool_calls):
            return Verdict(Outcome.DISAGREE, "one calls a tool where the other answers")
        return (self._calls if reference.tool_calls else self._otherwise).compare(reference, answer)


def _same(what: str, equal: bool) -> Verdict:
    return Verdict(Outcome.AGREE, f"{what} equal") if equal else Verdict(Outcome.DISAGREE, f"{what} differs")

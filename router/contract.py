"""The induced form of a task's answers: enforced when an SLM generates, checked afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from router.schema import SchemaUncheckable, breach
from router.scripts import script_shares

if TYPE_CHECKING:
    from router.features import CallFeatures, ToolCall

#: A longer answer is not checked, and so not served.
MAX_ANSWER_CHARS = 2 * 2**20
#: Share of an answer's letters from which a script counts as used (quoted words and names stay below).
_SCRIPT_SHARE = 0.3


class ContractInvalid(ValueError):
    """Not a contract's JSON form."""


class ContractKind(StrEnum):
    """Forms of answers, strictest first."""

    TOOL_CALL = "tool_call"
    JSON = "json"
    LABEL = "label"
    TEXT = "text"


class Dialect(StrEnum):
    """How an SLM server is told to keep to a form.

    `VLLM` knows `structured_outputs`. `OPENAI` stands for every other server: only fields of OpenAI's own API, and
    none for labels: an enum inside `json_schema` would put quotation marks around them, which is another answer.
    """

    VLLM = "vllm"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered: text, tool calls, or both.

    Attributes:
        text: the message's content, empty when there is none.
        tool_calls: in order; `router.features.ToolCall`.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputContract:
    """How every answer of a task looks.

    Attributes:
        kind: which of the fields below apply.
        schema: JSON: the JSON schema of the whole answer.
        tools: tool name → JSON schema of its arguments. For `TOOL_CALL` every answer is one of these calls; for the
            other kinds an answer may be one of these calls instead, and where there are none, must not be a call.
        open_tools: further tools may be called, if the request offers them: those seen are not all there are.
        parallel: whether an answer may hold several tool calls.
        labels: LABEL: the closed set of answers, stripped.
        min_chars, max_chars: TEXT: bounds on the answer's length.
        languages: TEXT: scripts seen (`latin`, `cyrillic`, `han`, …); an answer in another one breaks the contract.
            Empty means any.
        support: how many answers it was induced from.
    """

    kind: ContractKind
    schema: dict[str, Any] | None = None
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    open_tools: bool = False
    parallel: bool = True
    labels: tuple[str, ...] = ()
    min_chars: int = 0
    max_chars: int | None = None
    languages: tuple[str, ...] = ()
    support: int = 0

    def to_json(self) -> dict[str, Any]:
        """The contract as a JSON value; `from_json` reads it."""
        return {**asdict(self), "kind": self.kind.value, "labels": list(self.labels), "languages": list(self.languages)}

    @classmethod
    def from_json(cls, value: object) -> OutputContract:
        """Read what `to_json` wrote.

        Raises:
            ContractInvalid: a field is missing, unknown, or of the wrong type.
        """
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ContractInvalid("a contract is an object")
        fields = dict(value)
        try:
            kind = ContractKind(fields.pop("kind"))
            labels, languages = tuple(fields.pop("labels", ())), tuple(fields.pop("languages", ()))
            contract = cls(kind=kind, labels=labels, languages=languages, **fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractInvalid(f"not a contract: {error}") from error
        _check_types(contract)
        return contract


def _check_types(contract: OutputContract) -> None:
    right = (
        isinstance(contract.schema, dict | None)
        and isinstance(contract.tools, dict)
        and all(isinstance(name, str) and isinstance(schema, dict) for name, schema in contract.tools.items())
        and isinstance(contract.parallel, bool)
        and isinstance(contract.open_tools, bool)
        and all(isinstance(label, str) for label in contract.labels + contract.languages)
        and isinstance(contract.min_chars, int)
        and isinstance(contract.max_chars, int | None)
        and isinstance(contract.support, int)
        and (contract.schema is not None or contract.kind is not ContractKind.JSON)
        and (bool(contract.labels) or contract.kind is not ContractKind.LABEL)
    )
    if not right:
        raise ContractInvalid(f"a {contract.kind} contract with a field missing or of the wrong type")


def contract_for(contract: OutputContract, features: CallFeatures) -> OutputContract:
    """The contract as one call needs it: its own schemas win over the learned ones, and only its own tools exist.

    A client that asks for a JSON schema, or offers tools, says exactly what it can read; what was learned from
    other calls may be a version older.
    """
    wanted = requested_schema(features.body)
    if wanted is not None and wanted != contract.schema:
        contract = replace(contract, kind=ContractKind.JSON, schema=wanted)
    if contract.tools:
        offered = offered_tools(features.body)
        allowed = (
            offered if contract.open_tools else {name: offered[name] for name in contract.tools if name in offered}
        )
        contract = replace(contract, tools=allowed, open_tools=False)
    return contract


def requested_schema(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that a chat or responses request asks for, or None."""
    wanted = body.get("response_format")
    if wanted is None and isinstance(text := body.get("text"), Mapping):
        wanted = text.get("format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return None
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else wanted.get("schema")
    return schema if isinstance(schema, dict) else None


def offered_tools(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The functions that a request offers: name → schema of the arguments, `{"type": "object"}` where none is given."""
    tools = body.get("tools")
    offered: dict[str, dict[str, Any]] = {}
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if isinstance(function, Mapping) and isinstance(name := function.get("name"), str):
            parameters = function.get("parameters")
            offered[name] = parameters if isinstance(parameters, dict) and parameters else {"type": "object"}
    return offered


def violation(contract: OutputContract, answer: Answer) -> str | None:
    """How an answer breaks its contract.

    Takes tens of microseconds as a rule, and at most about a quarter of a second whatever the schema.

    Returns:
        None when it keeps to it; else one line without any of the answer's text, fit for a log.
    """
    if len(answer.text) + sum(len(call.arguments) for call in answer.tool_calls) > MAX_ANSWER_CHARS:
        return f"longer than {MAX_ANSWER_CHARS} characters"
    if answer.tool_calls:
        return _tool_call_violation(contract, answer)
    match contract.kind:
        case ContractKind.TOOL_CALL:
            return "no tool call"
        case ContractKind.JSON:
            return _json_violation(contract.schema or {}, answer.text, "the answer")
        case ContractKind.LABEL:
            return None if answer.text.strip() in contract.labels else "not one of the labels"
        case ContractKind.TEXT:
            return _text_violation(contract, answer.text)


def _tool_call_violation(contract: OutputContract, answer: Answer) -> str | None:
    if not contract.parallel and len(answer.tool_calls) > 1:
        return "more than one tool call"
    for call in answer.tool_calls:
        schema = contract.tools.get(call.name)
        if schema is None and not contract.open_tools:
            return "a tool that isn't among the task's" if contract.tools else "a tool call where text is expected"
        wrong = _json_violation(schema or {}, call.arguments or "{}", "the arguments", only_objects=True)
        if wrong:
            return wrong
    return None


def _json_violation(schema: dict[str, Any], text: str, what: str, only_objects: bool = False) -> str | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return f"{what}: not JSON"
    if only_objects and not isinstance(value, dict):
        return f"{what}: not a JSON object"
    try:
        place = breach(schema, value)
    except SchemaUncheckable as error:
        return f"{what}: can't be checked: {error}"
    return None if place is None else f"{what}: breaks the schema at {place}"


def _text_violation(contract: OutputContract, text: str) -> str | None:
    length = len(text.strip())
    if length < contract.min_chars:
        return f"{length} characters, fewer than {contract.min_chars}"
    if contract.max_chars is not None and length > contract.max_chars:
        return f"{length} characters, more than {contract.max_chars}"
    if contract.languages:
        for script, share in script_shares(text).items():
            if share >= _SCRIPT_SHARE and script not in contract.languages:
                return f"written in {script}"
    return None


def constrain(contract: OutputContract, body: dict[str, Any], dialect: Dialect = Dialect.VLLM) -> None:
    """Make an SLM server generate within the contract, as far as the server can be told.

    Only ever narrows: what the client itself asked for stays, and is merely made exact where it leaves freedom
    (`json_object`, `tool_choice: auto`). What can't be asked for is left to `violation`.

    Args:
        contract: as `contract_for` gives it.
        body: a chat completions request, changed in place. Its parts are replaced, not written into.
        dialect: what the server understands.
    """
    if contract.tools:
        _constrain_tools(contract, body)
        if contract.kind is not ContractKind.TOOL_CALL:
            return  # text or a call: a grammar for the text would forbid the call
    asked = body.get("response_format")
    asked_type = asked.get("type") if isinstance(asked, Mapping) else None
    if contract.kind is ContractKind.JSON and contract.schema and asked_type in (None, "json_object"):
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": contract.schema, "strict": True},
        }
    elif contract.kind is ContractKind.LABEL and asked_type is None and dialect is Dialect.VLLM:
        body.setdefault("structured_outputs", {"choice": list(contract.labels)})


def _constrain_tools(contract: OutputContract, body: dict[str, Any]) -> None:
    """vLLM keeps arguments to their schema only in strict functions."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return
    body["tools"] = [
        {**tool, "function": {"strict": True, **tool["function"]}}
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
        else tool
        for tool in tools
    ]
    if not contract.parallel:
        body.setdefault("parallel_tool_calls", False)
    if contract.kind is ContractKind.TOOL_CALL and body.get("tool_choice") in (None, "auto"):
        names = list(contract.tools)
        body["tool_choice"] = {"type": "function", "function": {"name": names[0]}} if len(names) == 1 else "required"

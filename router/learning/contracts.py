"""The form of a task's answers, induced from what the LLM answered.

A contract must let through at least 99 % of the LLM's own further answers: one that is too strict costs fallbacks, and
hides which answers are really broken. So every claim (a key is required, a set of values is closed) needs evidence, and
evidence is counted in conversations: the same request sent fifty times says what it said once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from router.contract import Answer, ContractKind, OutputContract, offered_tools, requested_schema, violation
from router.features import CallFeatures
from router.schema import SchemaUncheckable, essential
from router.scripts import script_shares

#: Share of the answers that may break a form before another is assumed.
TOLERATED = 0.01

MAX_LABELS = 256
MAX_LABEL_CHARS = 64
#: Answers without which nothing is said about a closed set; and conversations behind each label.
LABEL_ANSWERS = 20
LABEL_SUPPORT = 3

#: A field's values are an enum when there are few, short, each seen often, and hardly any seen only once or twice.
ENUM_VALUES = 12
ENUM_CHARS = 40
ENUM_ANSWERS = 50
ENUM_SUPPORT = 5
#: Values of a field without which nothing is said about it.
FIELD_SUPPORT = 5
#: Keys of an object are data (file names, dates), not fields, when there are many and most are rare.
_MAP_KEYS = 12
_MAP_COMMON_SHARE = 0.2
_MAX_DEPTH = 24

#: Free text: so much longer and shorter answers than those seen keep the contract. A refusal or a bare "No" comes late.
LENGTH_FACTOR = 4
SHORTER_FACTOR = 32
TEXT_ANSWERS = 30
#: Scripts are closed when each comes in so many answers and such a share of them: where one is rare, others will come.
SCRIPT_SUPPORT = 3
SCRIPT_SHARE = 0.05

ANY: dict[str, Any] = {}


def induce(
    calls: Sequence[CallFeatures], answers: Sequence[Answer], conversations: Sequence[str] | None = None
) -> OutputContract:
    """Find the strictest form that a task's answers keep.

    Args:
        calls: N requests of the task, oldest first.
        answers: N whole answers of the LLM.
        conversations: N; by default, every call counts as its own.

    Returns:
        `TOOL_CALL`, `JSON` or `LABEL` where 99 % of the answers have that form, else `TEXT` with bounds. Where some
        answers are tool calls and some are not, the contract's kind describes the latter, and its `tools` the former.
    """
    conversations = conversations or [str(place) for place in range(len(answers))]
    usable = [place for place, answer in enumerate(answers) if answer.tool_calls or answer.text.strip()]
    calling = [place for place in usable if answers[place].tool_calls]
    support = len(usable)
    common: dict[str, Any] = {"support": support}
    if calling:
        common["tools"] = _tools(calls, [answers[place] for place in calling])
        common["open_tools"] = _is_open([answers[p] for p in calling], [conversations[p] for p in calling])
        common["parallel"] = len(calling) < TEXT_ANSWERS or any(len(answers[p].tool_calls) > 1 for p in calling)
        if len(calling) >= (1 - TOLERATED) * support:
            return OutputContract(ContractKind.TOOL_CALL, **common)
    silent = [place for place in usable if not answers[place].tool_calls]
    texts = [answers[place].text.strip() for place in silent]
    if (schema := _json_schema([calls[place] for place in silent], texts)) is not None:
        return OutputContract(ContractKind.JSON, schema=schema, **common)
    if labels := closed_set(texts, [conversations[place] for place in silent]):
        return OutputContract(ContractKind.LABEL, labels=labels, **common)
    return OutputContract(ContractKind.TEXT, **_text_bounds(texts), **common)


def satisfied_share(contract: OutputContract, answers: Sequence[Answer]) -> float:
    """Share of answers that keep a contract; 1 for none."""
    return sum(violation(contract, answer) is None for answer in answers) / max(len(answers), 1)


def _tools(calls: Sequence[CallFeatures], answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Each tool that a task calls or could call: name → schema of its arguments.

    The newest offer counts. What was offered but never called stays allowed: a wrong choice of tool is a matter of
    agreement, not of form. A schema that the LLM itself does not keep to is replaced by one induced from its arguments.
    """
    offered: dict[str, dict[str, Any]] = {}
    for features in calls:
        offered.update(offered_tools(features.body))
    arguments: dict[str, list[Any]] = {name: [] for name in offered}
    for answer in answers:
        for call in answer.tool_calls:
            if (value := _loads(call.arguments or "{}")) is not None:
                arguments.setdefault(call.name, []).append(value)
    tools: dict[str, dict[str, Any]] = {}
    for name, values in arguments.items():
        schema = _checkable(offered.get(name))
        if schema is None or not _keeps(schema, values):
            schema = induce_schema(values) if values else {"type": "object"}
        tools[name] = schema
    return tools


def _is_open(answers: Sequence[Answer], conversations: Sequence[str]) -> bool:
    """Whether further tools are to be expected: by Good and Turing, as often as tools called only once."""
    seen = Counter({(call.name, name) for answer, name in zip(answers, conversations, strict=True)
                    for call in answer.tool_calls})  # fmt: skip
    by_tool = Counter(tool for tool, _ in seen)
    once = sum(count == 1 for count in by_tool.values())
    return len(answers) < TEXT_ANSWERS or once > TOLERATED * by_tool.total()


def _checkable(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What of a schema decides validity; None where there is none, or none that can be checked."""
    try:
        kept = essential(schema) if schema is not None else None
    except SchemaUncheckable:
        return None
    return kept if isinstance(kept, dict) else None


def _keeps(schema: dict[str, Any], values: Sequence[Any]) -> bool:
    contract = OutputContract(ContractKind.JSON, schema=schema)
    return satisfied_share(contract, [Answer(orjson.dumps(value).decode()) for value in values]) >= 1 - TOLERATED


def _json_schema(calls: Sequence[CallFeatures], texts: Sequence[str]) -> dict[str, Any] | None:
    """The schema of the answers, or None when they aren't JSON objects or lists. The client's own wins."""
    values = [_loads(text) for text in texts]
    found = [value for value in values if isinstance(value, dict | list)]
    if not found or len(found) < (1 - TOLERATED) * len(texts):
        return None
    asked = _checkable(requested_schema(calls[-1].body))
    if asked is not None and _keeps(asked, found):
        return asked
    return induce_schema(found)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def induce_schema(values: Sequence[Any], depth: int = 0) -> dict[str, Any]:
    """A JSON schema that all values keep, and further ones like them.

    Keys that were always there are required; unknown keys are allowed; enums need overwhelming support.
    """
    kinds = sorted({_kind(value) for value in values})
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    if depth > _MAX_DEPTH or len(values) < (FIELD_SUPPORT if depth else 1):
        return ANY
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        schema |= _object_schema(objects, depth)
    items = [item for value in values if isinstance(value, list) for item in value]
    if items and (inner := induce_schema(items, depth + 1)):
        schema["items"] = inner
    if kinds == ["string"] and (choices := _enum(values)):
        schema["enum"] = choices
    return schema


def _object_schema(objects: Sequence[dict[str, Any]], depth: int) -> dict[str, Any]:
    seen = Counter(key for each in objects for key in each)
    common = sum(count > 0.5 * len(objects) for count in seen.values())
    if len(seen) > _MAP_KEYS and common < _MAP_COMMON_SHARE * len(seen):
        return {"additionalProperties": induce_schema([v for each in objects for v in each.values()], depth + 1)}
    schema: dict[str, Any] = {
        "properties": {key: induce_schema([each[key] for each in objects if key in each], depth + 1) for key in seen}
    }
    if required := [key for key, count in seen.items() if count == len(objects)]:
        schema["required"] = required
    return schema


def _enum(values: Sequence[str]) -> list[str] | None:
    seen = Counter(values)
    closed = (
        len(values) >= ENUM_ANSWERS
        and 2 <= len(seen) <= ENUM_VALUES
        and min(seen.values()) >= ENUM_SUPPORT
        and all(0 < len(value) <= ENUM_CHARS for value in seen)
    )
    return sorted(seen) if closed else None


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def closed_set(texts: Sequence[str], conversations: Sequence[str]) -> tuple[str, ...]:
    """The labels, if the answers are a closed set of them.

    By Good and Turing's estimate, the share of answers that have not been seen yet is the share of those seen once: a
    tail of rare answers means that the set is open, however often the frequent ones come.

    Args:
        texts: N stripped answers.
        conversations: N; an answer counts once in each.

    Returns:
        Sorted; empty when it is no closed set.
    """
    seen = Counter(text for text, _ in set(zip(texts, conversations, strict=True)))
    labels = {text for text, count in seen.items() if count >= LABEL_SUPPORT}
    if not 2 <= len(labels) <= MAX_LABELS or seen.total() < LABEL_ANSWERS:
        return ()
    if any(len(label) > MAX_LABEL_CHARS or "\n" in label for label in labels):
        return ()
    rare = sum(count for text, count in seen.items() if text not in labels)
    return tuple(sorted(labels)) if rare <= TOLERATED * seen.total() else ()


def _text_bounds(texts: Sequence[str]) -> dict[str, Any]:
    """Length and scripts; little is claimed on little evidence."""
    if len(texts) < TEXT_ANSWERS:
        return {}
    lengths = sorted(map(len, texts))
    scripts = Counter(
        script for text in texts for script, share in script_shares(text).items() if share >= SCRIPT_SHARE
    )
    closed = min(scripts.values(), default=0) >= max(SCRIPT_SUPPORT, SCRIPT_SHARE * len(texts))
    return {
        "min_chars": max(1, lengths[0] // SHORTER_FACTOR),
        "max_chars": max(200, lengths[-1] * LENGTH_FACTOR),
        "languages": tuple(sorted(scripts)) if closed else (),
    }

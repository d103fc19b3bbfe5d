"""The form of a task's answers, induced from what the LLM answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from router.contract import Answer, ContractKind, OutputContract, offered_tools
from router.features import CallFeatures
from router.scripts import script_shares

MIN_LABEL_SUPPORT = 3  # a label seen less often shows that the set isn't closed
MAX_LABELS = 50
MAX_LABEL_CHARS = 60
MIN_ANSWERS_PER_LABEL = 5.0
JSON_SHARE = 0.99
LENGTH_MARGIN = 4.0
_ENUM_MAX = 20
_ENUM_ANSWERS_PER_VALUE = 20


def induce(calls: Sequence[CallFeatures], answers: Sequence[Answer]) -> OutputContract:
    """Find the strictest form that the answers of a task keep.

    A tool call where nearly every answer is one; else JSON; else a closed set of labels; else free text within four
    times the longest answer seen. A form is only assumed on evidence: wrong strictness costs fallbacks, never answers.
    """
    tools: dict[str, dict[str, Any]] = {}
    called = Counter(call.name for answer in answers for call in answer.tool_calls)
    for features, answer in zip(calls, answers, strict=True):
        if answer.tool_calls:
            tools |= {name: schema for name, schema in offered_tools(features.body).items() if name in called}
    support = len(answers)
    with_calls = sum(bool(answer.tool_calls) for answer in answers)
    parallel = any(len(answer.tool_calls) > 1 for answer in answers)
    if support and with_calls >= JSON_SHARE * support and tools:
        return OutputContract(ContractKind.TOOL_CALL, tools=tools, parallel=parallel, support=support)
    texts = [answer.text.strip() for answer in answers if not answer.tool_calls]
    more: dict[str, Any] = {"tools": tools, "parallel": parallel, "support": support}
    values = [value for text in texts if (value := _json(text)) is not None]
    if texts and len(values) >= JSON_SHARE * len(texts):
        return OutputContract(ContractKind.JSON, schema=induce_schema(values), **more)
    labels = Counter(texts)
    if (
        texts
        and len(labels) <= MAX_LABELS
        and len(texts) >= MIN_ANSWERS_PER_LABEL * len(labels)
        and min(labels.values()) >= MIN_LABEL_SUPPORT
        and all(0 < len(label) <= MAX_LABEL_CHARS for label in labels)
    ):
        return OutputContract(ContractKind.LABEL, labels=tuple(sorted(labels)), **more)
    scripts = Counter(script for text in texts for script, share in script_shares(text).items() if share > 0)
    frequent = tuple(sorted(s for s, count in scripts.items() if count >= 0.01 * len(texts)))
    return OutputContract(
        ContractKind.TEXT,
        min_chars=1 if texts and all(texts) else 0,
        max_chars=int(max(map(len, texts), default=0) * LENGTH_MARGIN) or None,
        languages=frequent if len(texts) >= MIN_LABEL_SUPPORT * 10 else (),
        **more,
    )


def _json(text: str) -> Any:
    """A JSON object or list, or None."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def induce_schema(values: Sequence[Any]) -> dict[str, Any]:
    """A JSON schema that all values keep: types, keys, those always present as required; enums on much evidence."""
    kinds = sorted({_kind(value) for value in values})
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    if kinds == ["object"]:
        keys = Counter(key for value in values for key in value)
        return {
            "type": "object",
            "properties": {key: induce_schema([v[key] for v in values if key in v]) for key in sorted(keys)},
            "required": sorted(key for key, count in keys.items() if count == len(values)),
            "additionalProperties": False,
        }
    if kinds == ["array"]:
        items = [item for value in values for item in value]
        return {"type": "array", "items": induce_schema(items)} if items else {"type": "array"}
    if kinds == ["string"]:
        seen = Counter(values)
        if len(seen) <= _ENUM_MAX and len(values) >= _ENUM_ANSWERS_PER_VALUE * len(seen):
            return {"type": "string", "enum": sorted(seen)}
        return {"type": "string"}
    if len(kinds) == 1:
        return {"type": kinds[0]}
    if "object" in kinds or "array" in kinds:
        return {}
    return {"type": kinds}


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

"""When two JSON values are the same, and where they differ."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import orjson

#: JSON nested deeper is not compared; orjson itself stops at 1,024.
_MAX_DEPTH = 128


class Unreadable(ValueError):
    """An answer without the form that its comparator needs; the message names what is wrong."""


def parse(text: str) -> Any:
    """Read JSON.

    Raises:
        Unreadable: no JSON, or nested deeper than 128 levels.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unreadable("no JSON") from error
    canonical(value)  # raises when it is too deep
    return value


def canonical(value: object, depth: int = 0) -> Hashable:
    """A JSON value in a form whose equality is JSON's: keys unordered, 1 and 1.0 the same, 1 and true not.

    Raises:
        Unreadable: nested deeper than 128 levels.
    """
    if depth > _MAX_DEPTH:
        raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
    match value:
        case bool() | None:
            return ("constant", value)
        case int() | float():
            return ("number", value)
        case list():
            return ("list", tuple(canonical(each, depth + 1) for each in value))
        case dict():
            return ("object", frozenset((key, canonical(each, depth + 1)) for key, each in value.items()))
        case _:
            return ("string", value)


def differences(left: object, right: object, place: str = "") -> Iterator[str]:
    """Where two JSON values differ, as JSON pointers ("" is the whole).

    Lists of different lengths and values of different types are one place.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            inner = place + pointer(key)
            if key in left and key in right:
                yield from differences(left[key], right[key], inner)
            else:
                yield inner
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from differences(one, other, f"{place}/{index}")
    elif canonical(left) != canonical(right):
        yield place


def completed(value: Any, schema: object, depth: int = 0) -> Any:
    """A JSON value as its schema reads it: left-out properties at their defaults, without nulls that say nothing.

    Strict function schemas must require every property, so a model says `null` there where it elsewhere says nothing.
    Beside a default that is something else, `null` is a value of its own.

    Raises:
        Unreadable: nested deeper than 128 levels.
    """
    if depth > _MAX_DEPTH:
        raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
    if not isinstance(schema, dict):
        return value
    if isinstance(value, list):
        return [completed(each, schema.get("items"), depth + 1) for each in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return value
    full: dict[str, Any] = {}
    for key in properties.keys() | value.keys():
        inner = properties.get(key)
        default = inner.get("default") if isinstance(inner, dict) else None
        found = value.get(key, default)
        if key not in value and default is None:
            continue
        if found is None and default is None and _nullable(inner):
            continue
        full[key] = completed(found, inner, depth + 1)
    return full


def _nullable(schema: object) -> bool:
    """Whether a schema takes null beside something else, as strict schemas and pydantic write it."""
    if not isinstance(schema, dict):
        return False
    kinds, choices = schema.get("type"), schema.get("anyOf")
    return (isinstance(kinds, list) and "null" in kinds) or (
        isinstance(choices, list) and {"type": "null"} in choices and len(choices) > 1
    )


def pointer(key: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")

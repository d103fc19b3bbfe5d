"""Checking JSON against schemas that strangers wrote: in bounded time, without the network.

A schema comes from a client's request. It may hold patterns that backtrack for ever, references to other servers, or
references to itself; each of these ends here as `SchemaUncheckable`, never as a hung worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
import regex
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

#: Larger schemas are refused. The largest among 3,888 recorded agent calls has 12 KB.
MAX_SCHEMA_BYTES = 256 * 1024
_MAX_DEPTH = 48
#: Keyword evaluations in one check (about 0.25 s); a 20 KB answer against a schema of 50 properties takes some 2,000.
_MAX_STEPS = 30_000
_PATTERN_TIMEOUT_SECONDS = 0.02

_ONE_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMA_MAPS = ("properties", "$defs", "definitions", "dependentSchemas")
#: Keywords with a plain value that are checked as they stand. What is in none of these lists says nothing about
#: validity (titles, descriptions), or is too dear or too rare to check (`unevaluatedProperties`, `$dynamicRef`).
_PLAIN = (
    "type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
    "minContains", "maxContains", "dependentRequired", "$ref",
)  # fmt: skip


class SchemaUncheckable(ValueError):
    """The schema is no schema, or checking a value against it costs more than is allowed."""


def essential(schema: object, depth: int = 0) -> Any:
    """The part of a schema that decides validity: titles, descriptions, defaults and annotations are left out.

    Two schemas with the same essence accept the same values, so it is also what schemas are compared by.

    Raises:
        SchemaUncheckable: nested deeper than 48 levels, or not of a schema's shape.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        raise SchemaUncheckable(f"a schema is an object or a boolean, nested at most {_MAX_DEPTH} deep")
    kept: dict[str, Any] = {key: schema[key] for key in _PLAIN if key in schema}
    for key in _ONE_SCHEMA:
        if isinstance(schema.get(key), list):  # `items` before draft 2020-12
            kept["prefixItems"] = [essential(each, depth + 1) for each in schema[key]]
        elif key in schema:
            kept[key] = essential(schema[key], depth + 1)
    for key in _SCHEMA_LISTS:
        if isinstance(schema.get(key), list):
            kept[key] = [essential(each, depth + 1) for each in schema[key]]
    for key in _SCHEMA_MAPS:
        if isinstance(schema.get(key), dict):
            kept[key] = {name: essential(each, depth + 1) for name, each in schema[key].items()}
    if "patternProperties" in schema:  # which names these are is not found out, so the others can't be known either
        kept.pop("additionalProperties", None)
    if isinstance(schema.get("pattern"), str) and _compiles(schema["pattern"]):
        kept["pattern"] = schema["pattern"]
    if kept.get("additionalProperties") is True:
        del kept["additionalProperties"]
    return kept


def breach(schema: dict[str, Any], value: object) -> str | None:
    """Where `value` breaks `schema`, or None when it keeps to it.

    Returns:
        The path inside the schema (never a part of the value, so that it is fit for a log): `properties/n/type`.

    Raises:
        SchemaUncheckable: the schema is malformed, refers to something outside itself, or the check ran out of steps.
    """
    validator = _compiled(_canonical(schema))
    spent = _steps.set([0])
    try:
        error: ValidationError | None = next(validator.iter_errors(value), None)
    except RecursionError as caught:
        raise SchemaUncheckable("the schema refers to itself without end") from caught
    except Unresolvable as caught:
        raise SchemaUncheckable(f"the schema refers to {caught.ref!r}, which isn't in it") from caught
    finally:
        _steps.reset(spent)
    return None if error is None else "/".join(map(str, error.absolute_schema_path))


def _canonical(schema: dict[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise SchemaUncheckable(f"the schema is no JSON: {error}") from error
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise SchemaUncheckable(f"the schema has {len(encoded)} bytes, more than {MAX_SCHEMA_BYTES}")
    return encoded


@lru_cache(maxsize=256)
def _compiled(encoded: bytes) -> Any:
    """One validator per distinct schema; clients send the same few again and again."""
    schema = essential(orjson.loads(encoded))
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise SchemaUncheckable(f"not a JSON schema: {error.json_path}: {error.validator}") from error
    return _BoundedValidator(schema, registry=Registry())  # an empty registry fetches nothing


_steps: ContextVar[list[int]] = ContextVar("steps of the current check")

Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(check: Check) -> Check:
    def counted(validator: Any, keyword_value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        steps = _steps.get()
        steps[0] += 1
        if steps[0] > _MAX_STEPS:
            raise SchemaUncheckable(f"the check takes more than {_MAX_STEPS} steps")
        yield from check(validator, keyword_value, instance, schema) or ()

    return counted


@lru_cache(maxsize=1024)
def _compiles(pattern: str) -> bool:
    try:
        regex.compile(pattern)
    except (regex.error, re.error, RecursionError):
        return False
    return True


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`pattern`, with an end: the regex module takes a timeout, the standard library's doesn't."""
    if isinstance(instance, str):
        try:
            found = regex.search(pattern, instance, timeout=_PATTERN_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise SchemaUncheckable("a pattern takes too long") from error
        if not found:
            yield ValidationError("does not match")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """`uniqueItems` in linear time; comparing all pairs is quadratic."""
    if wanted and isinstance(instance, list):
        encoded = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(encoded) < len(instance):
            yield ValidationError("has equal items")


_BoundedValidator = extend(
    Draft202012Validator,
    {
        keyword: _counted(check)
        for keyword, check in {
            **Draft202012Validator.VALIDATORS,
            "pattern": _pattern,
            "uniqueItems": _unique_items,
        }.items()
    },
)

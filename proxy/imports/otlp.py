"""OTLP/JSON: an export request a line, or one in a file.

https://github.com/open-telemetry/opentelemetry-proto/tree/main/examples. Exporters that are not in the letter of it are
understood too: names in snake case, attributes as a plain object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.imports.rows import Malformed, Row, first

Attributes = dict[str, Any]


def spans_of(request: Row) -> Iterator[Row]:
    """The spans of an export request.

    Raises:
        Malformed
    """
    return _parts(request, "Span", "spans", "spans")


def records_of(request: Row) -> Iterator[Row]:
    """The log records of an export request.

    Raises:
        Malformed
    """
    return _parts(request, "Log", "logRecords", "log_records")


def _parts(row: Row, kind: str, name: str, snake_name: str) -> Iterator[Row]:
    """The spans or log records of an export request."""
    for resource in row.get(f"resource{kind}s") or row.get(f"resource_{kind.lower()}s") or []:
        for scope in resource.get(f"scope{kind}s") or resource.get(f"scope_{kind.lower()}s") or []:
            for part in scope.get(name) or scope.get(snake_name) or []:
                if not isinstance(part, dict):
                    raise Malformed(f"a {kind.lower()} is no object")
                yield part


def span_of(part: Row) -> tuple[str, str]:
    """The ids of trace and span, of a span or of a log record."""
    return str(first(part, ("traceId", "trace_id"))), str(first(part, ("spanId", "span_id")))


def attributes_of(value: Any) -> Attributes:
    """`[{"key", "value": {"stringValue"}}]`, or an object where an exporter wrote it flat."""
    if isinstance(value, dict):
        return value
    pairs = [pair for pair in value if isinstance(pair, dict) and "key" in pair] if isinstance(value, list) else []
    return {str(pair["key"]): value_of(pair.get("value")) for pair in pairs}


def value_of(value: Any) -> Any:
    """An `AnyValue`. Integers are strings in OTLP/JSON."""
    match value:
        case {"intValue": found}:
            return int(found)
        case {"stringValue": found} | {"boolValue": found} | {"doubleValue": found}:
            return found
        case {"arrayValue": found}:
            return [value_of(item) for item in found.get("values") or []]
        case {"kvlistValue": found}:
            return {item["key"]: value_of(item.get("value")) for item in found.get("values") or []}
    return value if isinstance(value, str) else None

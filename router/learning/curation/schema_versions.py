"""Calls that were made with an older version of their tools or their answer's schema.

An SLM that learns from them answers in a form that the client no longer reads. A version is old when the newest one
came after it was last seen; two that are in use side by side (two releases of an agent) are both current.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import blake2b

import orjson

from router.contract import offered_tools, requested_schema
from router.features import CallFeatures
from router.schema import SchemaUncheckable, essential

#: What has versions: a tool by its name, or the schema of answers.
_ANSWER = "\0answer"


def outdated(calls: Sequence[CallFeatures], arrived_at: Sequence[datetime]) -> list[bool]:
    """Which of N calls of one cluster use a version that has been replaced.

    Descriptions are no part of a version, only what decides validity.

    Args:
        calls: N, in any order.
        arrived_at: N.
    """
    versions = [_versions(call) for call in calls]
    first: dict[tuple[str, bytes], datetime] = {}
    last: dict[tuple[str, bytes], datetime] = {}
    newest: dict[str, tuple[datetime, bytes]] = {}
    for each, moment in sorted(zip(versions, arrived_at, strict=True), key=lambda pair: pair[1]):
        for name, version in each.items():
            first.setdefault((name, version), moment)
            last[name, version] = moment
            newest[name] = (moment, version)
    old = {
        (name, version)
        for (name, version), moment in last.items()
        if version != newest[name][1] and moment < first[name, newest[name][1]]
    }
    return [any(version in old for version in each.items()) for each in versions]


def _versions(call: CallFeatures) -> dict[str, bytes]:
    schemas = dict(offered_tools(call.body))
    if (wanted := requested_schema(call.body)) is not None:
        schemas[_ANSWER] = wanted
    return {name: _digest(schema) for name, schema in schemas.items()}


def _digest(schema: object) -> bytes:
    with suppress(SchemaUncheckable):  # then it is compared as it is
        schema = essential(schema)
    return blake2b(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS), digest_size=8).digest()

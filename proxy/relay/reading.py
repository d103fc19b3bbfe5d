"""A request's body, parsed beside the bytes that are passed on."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from proxy.wire.endpoint import Endpoint
from router.features import CallFeatures, FeaturesUnreadable, read_chat, read_responses

PARSE_IN_THREAD_BYTES = 2**20


async def read_request(endpoint: Endpoint, data: bytes) -> tuple[dict[str, Any], CallFeatures | None]:
    """Parse a copy of a chat or responses call; what can't be read (None) is none of the router's business."""
    try:
        if len(data) > PARSE_IN_THREAD_BYTES:
            body = await asyncio.get_running_loop().run_in_executor(None, orjson.loads, data)
        else:
            body = orjson.loads(data)
        return body, read_chat(body) if endpoint is Endpoint.CHAT else read_responses(body)
    except (orjson.JSONDecodeError, FeaturesUnreadable, RecursionError):
        return {}, None

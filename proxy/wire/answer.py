"""An answer's body, as it was sent, as one JSON value: whichever endpoint, streamed or not, compressed or not."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.wire import chat, completions, messages, responses, sse
from proxy.wire.endpoint import Endpoint
from storage.encodings import decompress


def read_answer(
    endpoint: str, body: bytes, content_type: str = "", content_encoding: str = ""
) -> dict[str, Any] | None:
    """Parse an answer, or assemble it from its stream.

    Args:
        endpoint: a value of `Endpoint`. Streams of `OTHER` are read as Anthropic's messages where they look like it.
        body: as the client received it; may be cut anywhere.
        content_type: of the answer, parameters and all.
        content_encoding: of the answer; gzip, deflate and zstd are read.

    Returns:
        None when it is no JSON object, no event stream, or compressed in another way.
    """
    plain = decompress(body, content_encoding)
    if plain is None:
        return None
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        try:
            return _assemble(endpoint, plain)
        except (KeyError, TypeError, AttributeError, ValueError):  # a vendor's events are not what their type says
            return None
    try:
        answer = orjson.loads(plain)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _assemble(endpoint: str, stream: bytes) -> dict[str, Any] | None:
    match endpoint:
        case Endpoint.CHAT:
            return chat.assemble(stream)
        case Endpoint.RESPONSES:
            return responses.assemble(stream)
        case Endpoint.COMPLETIONS:
            return completions.assemble(stream)
    first = next(sse.parse(stream), None)
    return messages.assemble(stream) if first is not None and first.name == "message_start" else None

"""Tokens that nobody reported, counted with OpenAI's tokeniser (o200k_base)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import orjson

from proxy.wire.endpoint import Endpoint
from proxy.wire.usage import Usage
from router.features import FeaturesUnreadable, read_chat, read_responses

MESSAGE_OVERHEAD_TOKENS = 4  # OpenAI's count of what a message costs beside its text
MAX_COUNTED_CHARS = 400_000


class TokenCounter:
    """Counts requests and answers: 0.1 ms for 2 KB. Its tables are read for the first."""

    def count(self, endpoint: str, request: dict[str, Any], answer: dict[str, Any]) -> Usage | None:
        """A chat or responses call's tokens; None where the request can't be read."""
        try:
            features = read_chat(request) if endpoint == Endpoint.CHAT else read_responses(request)
        except FeaturesUnreadable:
            return None
        sent = sum(self._tokens(message.text) + MESSAGE_OVERHEAD_TOKENS for message in features.messages)
        message = first(answer.get("choices")).get("message") or {"output": answer.get("output")}
        return Usage(
            input_tokens=sent + self._tokens(_dumped(request.get("tools"))),
            output_tokens=self._tokens(_spoken(message)),
        )

    @cached_property
    def _encoding(self) -> Any:
        import bpe_openai  # half a second: most calls' usage is reported

        return bpe_openai.get_encoding("o200k_base")

    def _tokens(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text[:MAX_COUNTED_CHARS])) if text else 0


def first(values: object) -> dict[str, Any]:
    """The first of a list, where it is an object; else an empty one."""
    found = values[0] if isinstance(values, list) and values else None
    return found if isinstance(found, dict) else {}


def _dumped(value: object) -> str:
    return orjson.dumps(value).decode() if value else ""


def _spoken(message: Any) -> str:
    """What the model wrote: texts and tool calls."""
    if not isinstance(message, dict):
        return ""
    text = message.get("content")
    rest = message.get("tool_calls") or message.get("function_call") or message.get("output")
    return (text if isinstance(text, str) else "") + _dumped(rest)

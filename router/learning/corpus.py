"""Logged calls as learning reads them: features and the LLM's whole answer, out of bytes and an assembled answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from router.contract import Answer
from router.features import CallFeatures, FeaturesUnreadable, ToolCall, read_chat, read_responses

_EPOCH = datetime.fromtimestamp(0, UTC)
_READERS = {"chat": read_chat, "responses": read_responses}
#: Ways for an answer to end that leave it whole.
_WHOLE = frozenset({None, "stop", "tool_calls", "function_call", "completed"})


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call as learning sees it.

    Attributes:
        call_id: as people see it.
        answer: the LLM's; None for calls that it was never asked (they are never learned from) or that have no whole
            answer. They are assigned to tasks all the same.
        arrived_at: UTC.
        model: what answered.
    """

    call_id: str
    features: CallFeatures
    answer: Answer | None
    arrived_at: datetime = _EPOCH
    model: str = ""


def read_logged_call(
    call_id: str,
    endpoint: str,
    request: bytes,
    answer: Mapping[str, Any] | None,
    arrived_at: datetime = _EPOCH,
) -> LoggedCall | None:
    """Read one call of the log.

    Args:
        call_id: as people see it.
        endpoint: `chat` or `responses`; there are no tasks elsewhere.
        request: the request's body.
        answer: the LLM's answer as one JSON value, streams assembled; None where there is none, or only an SLM's.
        arrived_at: UTC.

    Returns:
        None for calls that no task can have: of another endpoint, or without its shape.
    """
    reader = _READERS.get(endpoint)
    if reader is None:
        return None
    try:
        features = reader(orjson.loads(request))
    except (orjson.JSONDecodeError, FeaturesUnreadable):
        return None
    learned = read_answer(endpoint, answer) if answer is not None else None
    model = answer.get("model") if answer is not None else None
    return LoggedCall(call_id, features, learned, arrived_at, model if isinstance(model, str) else features.model)


def read_answer(endpoint: str, answer: Mapping[str, Any]) -> Answer | None:
    """Text and tool calls of an answer.

    Args:
        endpoint: `chat` or `responses`.
        answer: a chat completion or a response, as one JSON value.

    Returns:
        None when it isn't whole (cut by a limit or a filter), is a refusal, or has not its endpoint's shape.
    """
    try:
        return _read_chat_answer(answer) if endpoint == "chat" else _read_response(answer)
    except (KeyError, TypeError, AttributeError, IndexError):
        return None


def _read_chat_answer(answer: Mapping[str, Any]) -> Answer | None:
    choice = answer["choices"][0]
    message = choice["message"]
    if choice.get("finish_reason") not in _WHOLE or message.get("refusal"):
        return None
    calls = [_tool_call(call.get("id"), call["function"]) for call in message.get("tool_calls") or ()]
    if message.get("function_call"):
        calls.append(_tool_call(None, message["function_call"]))
    return Answer(_text(message.get("content")), tuple(calls))


def _read_response(answer: Mapping[str, Any]) -> Answer | None:
    if answer.get("status") not in _WHOLE:
        return None
    texts: list[str] = []
    calls: list[ToolCall] = []
    for item in answer["output"]:
        if item["type"] == "message":
            if any(part["type"] == "refusal" for part in item["content"]):
                return None
            texts.append(_text(item["content"]))
        elif item["type"] == "function_call":
            calls.append(_tool_call(item.get("call_id"), item))
        elif item["type"] != "reasoning":
            return None  # a built-in tool's work: no SLM does that
    return Answer("".join(texts), tuple(calls))


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    return content if isinstance(content, str) else ""


def _tool_call(call_id: object, function: Mapping[str, Any]) -> ToolCall:
    """Arguments are JSON text by OpenAI's specification; some servers send the object itself."""
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = orjson.dumps(arguments or {}).decode()
    return ToolCall(call_id if isinstance(call_id, str) else "", function["name"], arguments)

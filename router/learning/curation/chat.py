"""A call as a conversation that ends with its answer, in the form of OpenAI's chat fine-tuning.

One form for everything that calls come in: chat and responses bodies, tools and functions of the old kind, texts in
parts. Arguments are always JSON text, and ids of tool calls are counted: real ones are noise that nothing can learn.

https://platform.openai.com/docs/api-reference/fine-tuning/chat-input
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from router.contract import Answer
from router.features import SYSTEM_ROLES, CallFeatures, Message, ToolCall
from router.learning.curation.drops import Drop, Dropped

#: A message as a JSON object: `role`, `content`, `tool_calls`, `tool_call_id`.
ChatMessage = dict[str, Any]


def chat_of(features: CallFeatures, answer: Answer) -> list[ChatMessage]:
    """The request's messages, and the answer as the last.

    Raises:
        Dropped: `UNRENDERABLE`: images or sounds, an unknown role, arguments that are not an object, a tool's result
            without its call.
    """
    ids = _Ids()
    chat: list[ChatMessage] = []
    for message in features.messages:
        said = _message(message, ids)
        if features.endpoint == "responses" and chat and _continues(chat[-1], said):
            chat[-1] = _joined(chat[-1], said)
        else:
            chat.append(said)
    chat.append(_assistant(answer.text, answer.tool_calls, ids))
    return chat


def tools_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The functions that a request offers, each as `{"type": "function", "function": {…}}`."""
    offered = [*_list(body.get("tools")), *_list(body.get("functions"))]
    functions = [tool.get("function", tool) for tool in offered if isinstance(tool, Mapping)]
    kept = ("name", "description", "parameters", "strict")
    return [
        {"type": "function", "function": {key: function[key] for key in kept if function.get(key) is not None}}
        for function in functions
        if isinstance(function, Mapping) and isinstance(function.get("name"), str)
    ]


def answer_of(message: ChatMessage) -> Answer:
    """A last message as contracts and comparators read answers."""
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", ())
    )
    return Answer(message.get("content") or "", calls)


class _Ids:
    """Tool calls, counted."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._last = ""

    def of_call(self, call_id: str) -> str:
        self._last = f"call_{len(self._known) + 1}"
        self._known[call_id or f"unnamed {len(self._known)}"] = self._last
        return self._last

    def of_result(self, call_id: str | None) -> str:
        found = self._known.get(call_id) if call_id else self._last
        if not found:
            raise Dropped(Drop.UNRENDERABLE)
        return found


def _message(message: Message, ids: _Ids) -> ChatMessage:
    if message.has_media:
        raise Dropped(Drop.UNRENDERABLE)
    if message.role in SYSTEM_ROLES:
        return {"role": "system", "content": message.text}
    match message.role:
        case "user":
            return {"role": "user", "content": message.text}
        case "assistant":
            return _assistant(message.text, message.tool_calls, ids)
        case "tool" | "function":
            return {"role": "tool", "tool_call_id": ids.of_result(message.tool_call_id), "content": message.text}
    raise Dropped(Drop.UNRENDERABLE)


def _assistant(text: str, calls: Sequence[ToolCall], ids: _Ids) -> ChatMessage:
    message: ChatMessage = {"role": "assistant"}
    if text or not calls:
        message["content"] = text
    if calls:
        message["tool_calls"] = [
            {
                "id": ids.of_call(call.call_id),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in calls
        ]
    return message


def _arguments(text: str) -> str:
    try:
        is_object = isinstance(json.loads(text or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise Dropped(Drop.UNRENDERABLE)
    return text or "{}"


def _continues(before: ChatMessage, said: ChatMessage) -> bool:
    """In responses every call of a tool is an item of its own; in chat they are one message."""
    return before["role"] == said["role"] == "assistant" and "tool_calls" in said


def _joined(before: ChatMessage, said: ChatMessage) -> ChatMessage:
    texts = [text for message in (before, said) if (text := message.get("content"))]
    joined: ChatMessage = {"role": "assistant"} | ({"content": "\n".join(texts)} if texts else {})
    return joined | {"tool_calls": [*before.get("tool_calls", ()), *said["tool_calls"]]}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

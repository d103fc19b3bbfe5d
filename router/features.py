"""The few parts of a request that the router reads, taken from a chat or responses body that is already parsed.

Nothing is copied that need not be: texts are the body's own strings, and `body` stays at hand for rules that look at
one field. Malformed shapes raise `FeaturesUnreadable`, and the call goes to the LLM, which will say what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

SYSTEM_ROLES = frozenset({"system", "developer"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text"})


class FeaturesUnreadable(ValueError):
    """The body does not have the shape of its endpoint."""


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool by the model: `arguments` is JSON text as the model wrote it."""

    call_id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One message; content parts are joined by line breaks, other media only flagged."""

    role: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    has_media: bool = False


class CallFeatures(msgspec.Struct, frozen=True):
    """What is read from one request.

    Attributes:
        endpoint: `chat` or `responses`.
        messages: in order; a responses call's `instructions` come first, as a system message.
        tools: names of the functions offered, in order.
        format_keys: what `response_format` (`text.format`) asks for: its type, its name, its top-level properties.
        prompt_chars: length of all texts.
        body: the parsed request; not to be changed.
    """

    endpoint: str
    model: str
    stream: bool
    messages: tuple[Message, ...]
    tools: tuple[str, ...]
    format_keys: tuple[str, ...]
    prompt_chars: int
    body: Mapping[str, Any]


def read_chat(body: object) -> CallFeatures:
    """Read a chat completions request.

    Raises:
        FeaturesUnreadable: `messages` is missing, empty, or not a list of objects.
    """
    if not isinstance(body, Mapping):
        raise FeaturesUnreadable("the body is not an object")
    raw = body.get("messages")
    if not isinstance(raw, list) or not raw:
        raise FeaturesUnreadable("`messages` is not a list with something in it")
    messages = tuple([_chat_message(item) for item in raw])
    tools = _tool_names(body.get("tools")) + _tool_names(body.get("functions"))
    return _features("chat", body, messages, tools, _format_keys(body.get("response_format")))


def read_responses(body: object) -> CallFeatures:
    """Read a responses request.

    Raises:
        FeaturesUnreadable: `input` is neither a text nor a list of objects.
    """
    if not isinstance(body, Mapping):
        raise FeaturesUnreadable("the body is not an object")
    instructions = body.get("instructions")
    messages = [Message("system", instructions)] if isinstance(instructions, str) and instructions else []
    given = body.get("input")
    if isinstance(given, str):
        messages.append(Message("user", given))
    elif isinstance(given, list):
        messages += [message for item in given if (message := _response_item(item)) is not None]
    else:
        raise FeaturesUnreadable("`input` is neither a text nor a list")
    if not messages:
        raise FeaturesUnreadable("`input` has no message")
    text = body.get("text")
    return _features(
        "responses",
        body,
        tuple(messages),
        _tool_names(body.get("tools")),
        _format_keys(text.get("format") if isinstance(text, Mapping) else None),
    )


def _features(
    endpoint: str,
    body: Mapping[str, Any],
    messages: tuple[Message, ...],
    tools: tuple[str, ...],
    format_keys: tuple[str, ...],
) -> CallFeatures:
    model = body.get("model")
    return CallFeatures(
        endpoint=endpoint,
        model=model if isinstance(model, str) else "",
        stream=body.get("stream") is True,
        messages=messages,
        tools=tools,
        format_keys=format_keys,
        prompt_chars=sum([len(message.text) for message in messages]),
        body=body,
    )


def _chat_message(item: object) -> Message:
    if not isinstance(item, Mapping):
        raise FeaturesUnreadable("a message is not an object")
    content = item.get("content")
    text, has_media = (content, False) if isinstance(content, str) else _parts(content)
    role = item.get("role")
    calls = item.get("tool_calls")
    if not calls and isinstance(legacy := item.get("function_call"), Mapping):
        calls = [{"id": "", "function": legacy}]
    call_id = item.get("tool_call_id")
    return Message(
        role if isinstance(role, str) else "",
        text,
        tuple([_tool_call(call) for call in calls]) if isinstance(calls, list) else (),
        call_id if isinstance(call_id, str) else None,
        has_media,
    )


def _response_item(item: object) -> Message | None:
    """One item of `input`; None for those that carry no message (reasoning, references)."""
    if not isinstance(item, Mapping):
        raise FeaturesUnreadable("an item of `input` is not an object")
    kind = item.get("type", "message")
    if kind == "message":
        content = item.get("content")
        text, has_media = (content, False) if isinstance(content, str) else _parts(content)
        role = item.get("role")
        return Message(role if isinstance(role, str) else "", text, has_media=has_media)
    if kind == "function_call":
        return Message("assistant", "", (_tool_call({"id": item.get("call_id"), "function": item}),))
    if kind == "function_call_output":
        call_id, output = item.get("call_id"), item.get("output")
        text, has_media = (output, False) if isinstance(output, str) else _parts(output)
        return Message("tool", text, (), call_id if isinstance(call_id, str) else None, has_media)
    return None


def _parts(content: object) -> tuple[str, bool]:
    """Join the text parts; say whether there are others."""
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        return "", content is not None
    texts: list[str] = []
    has_media = False
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
            text = part.get("text", part.get("refusal"))
            texts.append(text if isinstance(text, str) else "")
        else:
            has_media = True
    return "\n".join(texts), has_media


def _tool_call(call: object) -> ToolCall:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        return ToolCall("", "", "")
    values = (call.get("id"), function.get("name"), function.get("arguments"))
    call_id, name, arguments = (value if isinstance(value, str) else "" for value in values)
    return ToolCall(call_id, name, arguments)


def _tool_names(tools: object) -> tuple[str, ...]:
    """Names of functions; a built-in tool counts by its type."""
    if not isinstance(tools, list):
        return ()
    names: list[str] = []
    for tool in tools:
        if not isinstance(tool, Mapping):
            continue
        function = tool.get("function")
        name = function.get("name") if isinstance(function, Mapping) else tool.get("name", tool.get("type"))
        if isinstance(name, str):
            names.append(name)
    return tuple(names)


def _format_keys(wanted: object) -> tuple[str, ...]:
    if not isinstance(wanted, Mapping) or wanted.get("type") in (None, "text"):
        return ()
    inner = wanted.get("json_schema")
    inner = inner if isinstance(inner, Mapping) else wanted
    schema = inner.get("schema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    keys = [str(wanted["type"]), str(inner.get("name", ""))]
    return tuple(keys + sorted(map(str, properties))) if isinstance(properties, Mapping) else tuple(keys)

"""Messages as other tools log them, as OpenAI's chat completions write them.

Logs keep what their instrumentation saw: OpenAI's own messages, LangChain's (tool calls with `args`, everything else in
`additional_kwargs`), or mere text. What is already OpenAI's passes unchanged.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.imports.rows import Malformed

_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "function"}


def as_messages(value: Any) -> list[dict[str, Any]]:
    """A prompt: a list of messages, one message, or a text.

    Raises:
        Malformed: something else.
    """
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, dict):
        return [as_message(value, "user")]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return as_messages(value[0])  # LangChain logs batches; a call has one prompt
    if isinstance(value, list) and value:
        return [as_message(message, "user") for message in value]
    raise Malformed("the prompt is neither messages nor text")


def as_message(value: Any, role: str = "assistant") -> dict[str, Any]:
    """One message.

    Args:
        value: an object or a text.
        role: of what names none.

    Raises:
        Malformed: something else.
    """
    if isinstance(value, str):
        return {"role": role, "content": value}
    if not isinstance(value, dict):
        raise Malformed(f"a message is an object or a text, not {type(value).__name__}")
    message = dict(value)
    extra = message.pop("additional_kwargs", None)
    if isinstance(extra, dict):
        message = {name: extra[name] for name in ("tool_calls", "function_call") if extra.get(name)} | message
    kind = message.pop("type") if message.get("type") in _ROLES else None
    given = message.get("role") or kind or role
    message["role"] = _ROLES.get(given, given)
    message.setdefault("content", None)
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [as_tool_call(call) for call in message["tool_calls"]]
        if not message["tool_calls"]:
            del message["tool_calls"]
    return message


def as_tool_call(value: Any) -> dict[str, Any]:
    """One tool call: OpenAI's, or flat `{"id", "name", "args" | "arguments" | "input"}`.

    Raises:
        Malformed: no name.
    """
    if not isinstance(value, dict):
        raise Malformed("a tool call is no object")
    if isinstance(value.get("function"), dict):
        function = dict(value["function"])
    else:
        given = next((value[name] for name in ("args", "arguments", "input") if name in value), None)
        function = {"name": value.get("name"), "arguments": given}
    if not isinstance(function.get("name"), str):
        raise Malformed("a tool call names no tool")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        function["arguments"] = orjson.dumps({} if arguments is None else arguments).decode()
    return {"id": value.get("id") or "", "type": "function", "function": function}


def completion(
    messages: list[dict[str, Any]],
    *,
    model: str | None = None,
    usage: dict[str, Any] | None = None,
    finish_reasons: list[str] | None = None,
    identity: str | None = None,
    created: int = 0,
) -> dict[str, Any]:
    """The completion that carries these answers, one choice each.

    Args:
        finish_reasons: in the order of the choices; where there is none, `tool_calls` or `stop`.
    """
    reasons = finish_reasons or []
    choices = [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": reasons[index]
            if index < len(reasons)
            else ("tool_calls" if message.get("tool_calls") else "stop"),
        }
        for index, message in enumerate(messages)
    ]
    found: dict[str, Any] = {"id": identity, "object": "chat.completion", "created": created, "model": model}
    return {**found, "choices": choices, **({"usage": usage} if usage else {})}


def usage_of(
    input_tokens: float | None, output_tokens: float | None, cached: float | None = None, reasoning: float | None = None
) -> dict[str, Any] | None:
    """Token counts as OpenAI writes them; `input_tokens` and `output_tokens` include cached and reasoning ones."""
    if input_tokens is None and output_tokens is None:
        return None
    given, made = int(input_tokens or 0), int(output_tokens or 0)
    usage: dict[str, Any] = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": int(cached)}
    if reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": int(reasoning)}
    return usage


def failure(message: str | None, code: str | None = None) -> dict[str, Any]:
    """An error's body in OpenAI's shape, for calls of which only the message was logged."""
    return {"error": {"message": message or "the call failed", "type": "api_error", "param": None, "code": code}}

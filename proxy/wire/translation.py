"""Chat ⇄ responses: SLMs are asked by chat completions, whichever of the two the client speaks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.wire.usage import read_usage


class Untranslatable(ValueError):
    """The request uses something that chat completions don't have; the message names it."""


#: Fields that mean the same in both.
_SAME = ("model", "temperature", "top_p", "parallel_tool_calls", "user", "top_logprobs")


def to_chat(request: Mapping[str, Any]) -> dict[str, Any]:
    """A self-contained responses request as a chat request, without `stream`.

    Args:
        request: the parsed body. What has no effect on the answer's text (`store`, `metadata`, `service_tier`,
            `truncation`, `prompt_cache_key`, …) is left out.

    Raises:
        Untranslatable: an item, part, tool or format that chat completions don't have.
    """
    try:
        return _chat_body(request)
    except (KeyError, TypeError, AttributeError) as error:
        raise Untranslatable(f"malformed: {error!r}") from error


def _chat_body(request: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {name: request[name] for name in _SAME if request.get(name) is not None}
    body["messages"] = _messages(request)
    if (limit := request.get("max_output_tokens")) is not None:
        body["max_completion_tokens"] = limit
    if tools := request.get("tools"):
        body["tools"] = [_tool(tool) for tool in tools]
        if (choice := request.get("tool_choice")) is not None:
            body["tool_choice"] = _tool_choice(choice)
    if "top_logprobs" in body or "message.output_text.logprobs" in (request.get("include") or ()):
        body["logprobs"] = True
    if (text_format := (request.get("text") or {}).get("format")) is not None:
        match text_format.get("type"):
            case "json_schema":
                schema = {k: v for k, v in text_format.items() if k != "type"}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
            case "json_object":
                body["response_format"] = {"type": "json_object"}
            case "text":
                pass
            case other:
                raise Untranslatable(f"text.format.type {other!r}")
    return body


def _messages(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Instructions and input items as messages; a message and the function calls after it become one."""
    messages: list[dict[str, Any]] = []
    if instructions := request.get("instructions"):
        if not isinstance(instructions, str):
            raise Untranslatable("instructions that are no text")
        messages.append({"role": "system", "content": instructions})
    given = request.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or ():
        match item.get("type", "message"):
            case "message":
                role = "system" if item["role"] == "developer" else item["role"]
                messages.append({"role": role, "content": _content(item["content"])})
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                calls = messages[-1].setdefault("tool_calls", [])
                calls.append({"id": item["call_id"], "type": "function", "function": function})
            case "function_call_output":
                content = _content(item["output"])
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
            case other:
                raise Untranslatable(f"input item {other!r}")
    return messages


def _content(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A message's content; texts alone become one string, which every chat template takes."""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        match part.get("type"):
            case "input_text" | "output_text":
                parts.append({"type": "text", "text": part["text"]})
            case "refusal":
                parts.append({"type": "text", "text": part["refusal"]})
            case "input_image" if part.get("image_url"):
                image = {"url": part["image_url"]} | ({"detail": part["detail"]} if part.get("detail") else {})
                parts.append({"type": "image_url", "image_url": image})
            case other:
                raise Untranslatable(f"content part {other!r}")
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Untranslatable(f"tool {tool.get('type')!r}")
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type" and v is not None}}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice["name"]}}
    raise Untranslatable(f"tool_choice {choice.get('type')!r}")


#: What a response repeats from its request, and the value that stands for its absence.
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def from_chat(completion: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """A completion as the response that the client asked for.

    Args:
        completion: with one choice; its tool calls' ids are kept as `call_id`.
        request: the parsed responses request. Its `store` is answered with false: nothing is kept to be referred to.
    """
    choice = completion["choices"][0]
    cut = choice.get("finish_reason") in ("length", "content_filter")
    status = "incomplete" if cut else "completed"
    created_at = completion.get("created") or int(time.time())
    echoed = {name: default if request.get(name) is None else request[name] for name, default in _ECHOED.items()}
    reason = "max_output_tokens" if choice.get("finish_reason") == "length" else "content_filter"
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": created_at,
        "completed_at": None if cut else int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if cut else None,
        "model": completion.get("model"),
        "output": list(_output(choice, status)),
        **echoed,
        "store": False,
        "usage": _usage(completion),
    }


def _output(choice: Mapping[str, Any], status: str) -> Iterator[dict[str, Any]]:
    """The message, if it says anything, then the function calls."""
    message = choice["message"]
    parts: list[dict[str, Any]] = []
    if text := message.get("content"):
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
    if refusal := message.get("refusal"):
        parts.append({"type": "refusal", "refusal": refusal})
    calls = message.get("tool_calls") or ()
    if parts or not calls:
        identity = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant"}
        yield identity | {"status": status, "content": parts}
    for call in calls:
        function = call["function"]
        yield {
            "id": f"fc_{uuid.uuid4().hex}",
            "type": "function_call",
            "status": status,
            "call_id": call["id"],
            "name": function["name"],
            "arguments": function["arguments"],
        }


def _usage(completion: Mapping[str, Any]) -> dict[str, Any] | None:
    usage = read_usage(completion)
    if usage is None:
        return None
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + made,
    }

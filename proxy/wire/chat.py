"""Chat completions: the stream that spells a completion, both ways.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from proxy.wire import sse

#: Strings of a delta that continue what came before; every other string replaces it.
_CONTINUED = frozenset({"content", "refusal", "reasoning", "reasoning_content", "thinking", "arguments", "input"})
#: Top-level fields of a chunk that belong to the chunk alone.
_OF_THE_CHUNK = frozenset({"choices", "object", "obfuscation"})

#: Top-level fields whose first non-empty value counts: Azure begins with an empty chunk, Groq ends with a stub.
_IDENTITY = frozenset({"id", "created", "model"})


def assemble(stream: bytes) -> dict[str, Any]:
    """Put a stream's deltas together.

    Nothing is required of the stream: an error event becomes the completion's `error`, a cut stream has choices whose
    `finish_reason` is None, an empty one has no choices.

    Args:
        stream: as the client received it.

    Returns:
        A completion: `id`, `object`, `created`, `model`, `choices` ordered by index, `usage` and whatever else the
        vendor put beside them.
    """
    completion: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks(stream):
        for name, value in chunk.items():
            if name in _OF_THE_CHUNK or (name in _IDENTITY and completion.get(name)):
                continue
            if value is not None or name not in completion:
                completion[name] = value
        for delta in chunk.get("choices") or ():
            if isinstance(delta, dict):
                index = delta.get("index")
                _grow_choice(choices.setdefault(index if isinstance(index, int) else 0, {}), delta)
    completion["choices"] = [
        {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None} | choices[index]
        for index in sorted(choices)
    ]
    for choice in completion["choices"]:
        message = choice["message"] = {"role": "assistant", "content": None} | choice["message"]
        if message.get("tool_calls"):
            message["tool_calls"] = _finished(message["tool_calls"])
    return completion


def chunks(stream: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream's `data` lines, up to `[DONE]`. Data that is no JSON object is skipped."""
    for event in sse.parse(stream):
        if event.data == b"[DONE]":
            return
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            continue
        if isinstance(chunk, dict):
            yield chunk


def _grow_choice(choice: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add one chunk's choice to the choice so far."""
    message = choice.setdefault("message", {})
    for name, value in delta.items():
        if name == "delta":
            if isinstance(value, dict):
                _grow(message, value)
        elif name == "logprobs" and isinstance(value, dict):
            logprobs = choice.get("logprobs") or {}
            choice["logprobs"] = logprobs
            _grow(logprobs, value)
        elif value is not None or name not in choice:
            choice[name] = value


def _grow(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add one delta to the whole so far: texts are continued, tool calls found by their index, lists extended."""
    for name, value in delta.items():
        so_far = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif name == "tool_calls" and isinstance(value, list):
            calls = whole[name] = so_far if isinstance(so_far, list) else []
            for call in value:
                if isinstance(call, dict):
                    _grow(_tool_call(calls, call), {k: v for k, v in call.items() if k != "index"})
        elif isinstance(value, str) and isinstance(so_far, str) and name in _CONTINUED:
            whole[name] = so_far + value
        elif isinstance(value, str) and isinstance(so_far, str) and not value:
            continue  # vendors repeat a call's id or name as an empty string
        elif isinstance(value, dict):
            part = whole[name] = so_far if isinstance(so_far, dict) else {}
            _grow(part, value)
        elif isinstance(value, list):
            whole[name] = (so_far if isinstance(so_far, list) else []) + value
        else:
            whole[name] = value


def _tool_call(calls: list[dict[str, Any]], delta: Mapping[str, Any]) -> dict[str, Any]:
    """The call that a delta continues: the last one of its index. Another id begins another call, because some vendors
    send several whole calls under index 0, or no index at all."""
    index, call_id = delta.get("index"), delta.get("id")
    of_index = [call for call in calls if index is None or call["index"] == index]
    if of_index and (not call_id or of_index[-1].get("id", call_id) == call_id):
        return of_index[-1]
    begun: dict[str, Any] = {"index": len(calls) if index is None else index}
    calls.append(begun)
    return begun


def _finished(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls in the order of their indexes, which are left out; arguments are a string, if an empty one."""
    finished = []
    for call in sorted(calls, key=lambda call: int(call["index"])):
        del call["index"]
        if isinstance(function := call.get("function"), dict) and function.get("arguments") is None:
            function["arguments"] = ""
        finished.append(call)
    return finished


def render(completion: Mapping[str, Any], *, include_usage: bool) -> bytes:
    """Spell a completion as the stream that a client with `stream: true` expects, `[DONE]` included.

    Args:
        completion: with `choices[].message`.
        include_usage: the request's `stream_options.include_usage`: a last chunk without choices tells the usage, and
            every other one has `usage: null`.
    """
    head = {name: value for name, value in completion.items() if name not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    tail = {"usage": None} if include_usage else {}
    out: list[bytes] = []

    def emit(choices: list[dict[str, Any]], **more: Any) -> None:
        out.append(sse.encode(orjson.dumps(head | {"choices": choices} | tail | more)))

    for choice in completion["choices"]:
        index = choice["index"]
        for delta in _deltas(choice["message"]):
            logprobs = choice.get("logprobs") if delta.get("content") else None
            emit([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])
        emit([{"index": index, "delta": {}, "logprobs": None, "finish_reason": choice.get("finish_reason") or "stop"}])
    if include_usage:
        emit([], usage=completion.get("usage"))
    return b"".join(out) + sse.DONE


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as OpenAI streams it: the role, the texts, then each tool call's head and its arguments."""
    calls = message.get("tool_calls") or []
    texts = {name: text for name, text in message.items() if name in _CONTINUED and isinstance(text, str) and text}
    yield {"role": message.get("role") or "assistant", "content": "" if "content" in texts or not calls else None}
    for name, text in texts.items():
        yield {name: text}
    for index, call in enumerate(calls):
        function = call["function"]
        head = {"index": index, "id": call["id"], "type": call.get("type") or "function"}
        yield {"tool_calls": [head | {"function": {"name": function["name"], "arguments": ""}}]}
        if function.get("arguments"):
            yield {"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]}
    if isinstance(function_call := message.get("function_call"), Mapping):
        yield {"function_call": dict(function_call)}

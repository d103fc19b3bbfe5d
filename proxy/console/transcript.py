"""A request or an answer as a conversation: who says what, tool calls readable, everything bounded.

Reads what OpenAI's chat, responses and completions have; whatever else there is, is shown as JSON or as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.wire.answer import read_answer
from storage.encodings import decompress

MAX_CHARS = 20_000
MAX_TURNS = 60
_TALK = frozenset({"messages", "input", "instructions", "tools", "prompt"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a turn.

    Attributes:
        kind: `text`, `call` (of a tool, named by `name`), `result` (of one), or `data`.
        cut: how many characters of it are not here.
    """

    kind: str
    text: str
    name: str = ""
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said."""

    role: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation.

    Attributes:
        turns: the first and the last of them where there are too many.
        left_out: how many turns are missing in the middle, after `before` turns.
        options: everything else that was asked for, as JSON; None where there is nothing.
        tools: names of the tools that were offered.
    """

    turns: list[Turn]
    left_out: int = 0
    before: int = 0
    options: Part | None = None
    tools: tuple[str, ...] = ()


def read_request(body: bytes | None) -> Transcript | None:
    """A request's body; None where none was kept."""
    if body is None:
        return None
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Transcript([Turn("request", [_part("data", body.decode(errors="replace"))])])
    if not isinstance(asked, dict):
        return Transcript([Turn("request", [_data(asked)])])
    turns = list(_asked(asked))
    others = {name: value for name, value in asked.items() if name not in _TALK}
    tools = tuple(_tool_name(tool) for tool in _list(asked.get("tools"))[:100])
    return _bounded(turns, _data(others) if others else None, tools)


def read_response(endpoint: str, body: bytes | None, content_type: str, content_encoding: str) -> Transcript | None:
    """An answer's body, put together where it was streamed; None where none was kept."""
    if body is None:
        return None
    answer = read_answer(endpoint, body, content_type, content_encoding)
    if answer is None:
        plain = decompress(body, content_encoding)
        text = f"{len(body)} bytes, compressed" if plain is None else plain.decode(errors="replace")
        return Transcript([Turn("answer", [_part("data", text)])] if body else [])
    return _bounded(list(_answered(answer)), None, ())


def said(transcript: Transcript | None) -> str:
    """All that is said in it, in one text."""
    parts = [part for turn in transcript.turns for part in turn.parts] if transcript else []
    return "\n".join(f"{part.name}({part.text})" if part.kind == "call" else part.text for part in parts)


def _asked(asked: dict[str, Any]) -> Iterator[Turn]:
    if asked.get("instructions"):
        yield Turn("system", [*_content(asked["instructions"])])
    for name in ("messages", "input"):
        said = asked.get(name)
        if isinstance(said, list):
            yield from map(_turn, said)
        elif said is not None:
            yield Turn("user", [*_content(said)])
    if "prompt" in asked:
        yield Turn("prompt", [*_content(asked["prompt"])])


def _answered(answer: dict[str, Any]) -> Iterator[Turn]:
    if answer.get("error"):
        yield Turn("error", [_data(answer["error"])])
    choices = answer.get("choices")
    for choice in _list(choices):
        message = choice.get("message") if isinstance(choice, Mapping) else None
        yield _turn(message if isinstance(message, Mapping) else {"role": "assistant", "content": _text_of(choice)})
    output = answer.get("output")
    yield from map(_turn, _list(output))
    if choices is None and output is None and not answer.get("error"):
        yield Turn("answer", [_data(answer)])


def _turn(message: object) -> Turn:
    """A chat message, or an item of a responses request or answer."""
    if not isinstance(message, Mapping):
        return Turn("message", [*_content(message)])
    match message.get("type"):
        case "function_call":
            return Turn("assistant", [_call(message.get("name"), message.get("arguments"))])
        case "function_call_output":
            return Turn("tool", [_part("result", _text(message.get("output")), _name(message.get("call_id")))])
    role = _name(message.get("role")) or _name(message.get("type")) or "message"
    parts = [*_content(message.get("content"))]
    if role == "tool":
        parts = [Part("result", part.text, _name(message.get("tool_call_id")), part.cut) for part in parts]
    for field in ("refusal", "reasoning", "reasoning_content"):
        if isinstance(message.get(field), str) and message[field]:
            parts.append(_part("text", message[field], field))
    for call in [*_list(message.get("tool_calls")), {"function": message.get("function_call")}]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            parts.append(_call(function.get("name"), function.get("arguments")))
    if not parts and message.get("role") is None:
        parts = [_data(message)]
    return Turn(role, parts)


def _content(content: object) -> Iterator[Part]:
    if content is None:
        return
    if isinstance(content, str):
        yield _part("text", content)
        return
    for piece in content if isinstance(content, list) else [content]:
        text = _text_of(piece)
        yield _data(piece) if text is None else _part("text", text)


def _text_of(piece: object) -> str | None:
    if isinstance(piece, str):
        return piece
    text = piece.get("text") if isinstance(piece, Mapping) else None
    return text if isinstance(text, str) else None


def _call(name: object, arguments: object) -> Part:
    text = _text(arguments)
    with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):  # cut, or numbers that only text can hold
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    return _part("call", text, _name(name))


def _tool_name(tool: object) -> str:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    return (_name(function.get("name")) or _name(function.get("type")) or "?") if isinstance(function, Mapping) else "?"


def _data(value: object) -> Part:
    return _part("data", orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode() if value is not None else ""


def _name(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _part(kind: str, text: str, name: str = "") -> Part:
    return Part(kind, text[:MAX_CHARS], name, max(len(text) - MAX_CHARS, 0))


def _bounded(turns: list[Turn], options: Part | None, tools: tuple[str, ...]) -> Transcript:
    """The system's words and the last turns say most."""
    if len(turns) <= MAX_TURNS:
        return Transcript(turns, 0, 0, options, tools)
    before = 5
    kept = turns[:before] + turns[before - MAX_TURNS :]
    return Transcript(kept, len(turns) - MAX_TURNS, before, options, tools)

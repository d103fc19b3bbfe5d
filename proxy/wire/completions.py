"""Legacy completions: a stream's texts put together."""

from __future__ import annotations

from typing import Any

from proxy.wire import chat


def assemble(stream: bytes) -> dict[str, Any]:
    """Put a stream's texts together.

    Args:
        stream: as the client received it.

    Returns:
        A completion with `choices[].text`, ordered by index; `finish_reason` is None where the stream was cut.
    """
    completion: dict[str, Any] = {"object": "text_completion"}
    texts: dict[int, list[str]] = {}
    endings: dict[int, str | None] = {}
    for chunk in chat.chunks(stream):
        for name, value in chunk.items():
            if name != "choices" and (value is not None or name not in completion):
                completion[name] = value
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            texts.setdefault(index, []).append(choice.get("text") or "")
            endings[index] = choice.get("finish_reason") or endings.get(index)
    completion["choices"] = [
        {"index": index, "text": "".join(texts[index]), "finish_reason": endings[index]} for index in sorted(texts)
    ]
    return completion

"""What an agent sends, and what the LLM is to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MODEL = "gpt-4o"

#: A text, or a message with `content` and `tool_calls`.
Answer = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One call of an agent.

    Attributes:
        request: a chat completions body.
        answer: the LLM's; the truth, where the task has one.
    """

    request: dict[str, Any]
    answer: Answer


def chat_call(system: str, user: str, **more: Any) -> dict[str, Any]:
    """A chat request of one turn, at temperature 0 unless `more` says otherwise."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {"model": MODEL, "messages": messages, "temperature": 0} | more

"""The simulated LLM: it knows the right answer to what it was told to expect, and can be made to change its mind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.demo.agents.calls import Answer, Assignment
from proxy.demo.agents.triage import ticket_call


class SimulatedLLM:
    """Right by construction, which is what makes it simulated; what it does not expect is not its business."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], Answer] = {}
        self._changes: dict[str, Callable[[str], str]] = {}

    def expect(self, assignment: Assignment) -> None:
        """Teach it the truth of one call."""
        self._answers[_prompt(assignment.request)] = assignment.answer

    def change(self, system: str, change: Callable[[str], str]) -> None:
        """From now on it answers calls with this system prompt otherwise, as a new version of a model may.

        Args:
            change: its former answer → its answer.
        """
        self._changes[system] = change

    def answer(self, request: dict[str, Any]) -> Answer | None:
        """The answer as it is now, or None when the request isn't one of those that it expects."""
        prompt = _prompt(request)
        answer = self._answers.get(prompt)
        change = self._changes.get(prompt[0])
        return change(answer) if change is not None and isinstance(answer, str) else answer


def _prompt(request: dict[str, Any]) -> tuple[str, str]:
    """System prompt and question; empty for a request that isn't made of just these."""
    said = [message.get("content") for message in request.get("messages") or ()]
    if len(said) == 2 and isinstance(said[0], str) and isinstance(said[1], str):
        return said[0], said[1]
    return "", ""


class TriageLLM:
    """The simulated LLM of the triage agent alone."""

    def __init__(self) -> None:
        self._llm = SimulatedLLM()

    def expect(self, text: str, answer: str) -> None:
        """Teach it the truth of one ticket."""
        self._llm.expect(Assignment(ticket_call(text), answer))

    def answer(self, request: dict[str, Any]) -> str | None:
        """The answer's text, or None when the request isn't one of the agent's."""
        answer = self._llm.answer(request)
        return answer if isinstance(answer, str) else None

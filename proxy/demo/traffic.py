"""The simulated agents at work: their calls through the official client, and what came back, held against the truth."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.demo.agents import AGENTS, Agent, Answer, SimulatedLLM
from proxy.replay.client import Answered, replay
from proxy.replay.recordings import Recording

Progress = Callable[[int, int], None]  # calls done, calls in all


@dataclass(slots=True)
class Score:
    """How an agent's calls were answered.

    Attributes:
        by_slm: answered by its SLM.
        right: of those, as the LLM would have answered.
    """

    calls: int = 0
    failed: int = 0
    by_slm: int = 0
    right: int = 0

    def __add__(self, other: Score) -> Score:
        """Both together."""
        return Score(
            self.calls + other.calls,
            self.failed + other.failed,
            self.by_slm + other.by_slm,
            self.right + other.right,
        )


class Traffic:
    """All agents; each goes on where it stopped, and nobody says the same twice."""

    def __init__(self, llm: SimulatedLLM, recordings: Sequence[Recording], seed: int = 1) -> None:
        """
        Args:
            llm: is told the truth of every call before it is sent.
            recordings: other agents' calls, sent as they were recorded.
        """
        self.calls = 0
        self._llm = llm
        self._recordings = recordings
        self._work = {agent.name: agent.calls(seed) for agent in AGENTS}
        self._rng = random.Random(seed)

    def texts(self, each: int) -> list[str]:
        """What is said in the first calls of every agent and its answers, to make a tokeniser of."""
        said: list[str] = []
        for agent in AGENTS:
            for assignment in itertools.islice(agent.calls(0), each):
                said += [message["content"] for message in assignment.request["messages"]]
                said.append(_text(assignment.answer))
        return said

    def send(
        self,
        base_url: str,
        counts: Mapping[str, int],
        recorded: int = 0,
        progress: Progress = lambda done, of: None,
    ) -> dict[str, Score]:
        """Send calls, shuffled, some at a time.

        Args:
            counts: agent's name → how many of its calls.
            recorded: how many of the other agents'.

        Returns:
            By agent's name.
        """
        own = [(name, next(self._work[name])) for name, count in counts.items() for _ in range(count)]
        for _, assignment in own:
            self._llm.expect(assignment)
        others = self._rng.sample(self._recordings, min(recorded, len(self._recordings)))
        turns: list[tuple[str | None, dict[str, Any]]] = [(name, each.request) for name, each in own]
        turns += [(None, recording.request) for recording in others]
        self._rng.shuffle(turns)
        requests = [request for _, request in turns]
        tally = asyncio.run(replay(requests, base_url, progress=lambda done: progress(done, len(requests))))
        self.calls += tally.sent
        scores = {name: Score() for name in counts}
        for place, (name, request) in enumerate(turns):
            if name is not None:
                scores[name] += self._score(request, tally.answers.get(place))
        return scores

    def _score(self, request: dict[str, Any], answered: Answered | None) -> Score:
        if answered is None:
            return Score(calls=1, failed=1)
        by_slm = answered.served_by == "slm"
        expected = self._llm.answer(request)
        right = by_slm and expected is not None and said(answered.message) == said(expected)
        return Score(1, 0, int(by_slm), int(right))


def narrow() -> tuple[Agent, ...]:
    """The agents whose calls have one right answer."""
    return tuple(agent for agent in AGENTS if agent.narrow)


def said(answer: Answer) -> Any:
    """What an answer comes to, however it is spaced: arguments of its tool calls, else JSON, else text."""
    if isinstance(answer, str):
        return _value(answer)
    calls = [call["function"] for call in answer.get("tool_calls") or ()]
    if calls:
        return [(call["name"], _value(call["arguments"])) for call in calls]
    return _value(answer.get("content") or "")


def _text(answer: Answer) -> str:
    if isinstance(answer, str):
        return answer
    return "\n".join(call["function"]["arguments"] for call in answer["tool_calls"])


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text.strip()

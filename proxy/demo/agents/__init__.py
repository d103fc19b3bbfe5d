"""The demo's simulated agents, and the simulated LLM that they call.

Their prompts are fixed and their payloads are templates filled with slots: what real agents' narrow tasks look like.
The simulator knows the truth of every call of a narrow task, so that the demo can measure the SLM against it and not
against a guess. Nothing in the product knows these files; the proxy sees HTTP calls only.

    calls.py        what an agent sends, and what the LLM is to answer
    triage.py       tickets → JSON
    languages.py    what a guest says → a label
    rooms.py        a wish for a room → a tool call
    letters.py      letters and slogans: open-ended, no two answers alike
    llm.py          the simulated LLM
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxy.demo.agents import languages, letters, rooms, triage
from proxy.demo.agents.calls import MODEL, Answer, Assignment
from proxy.demo.agents.llm import SimulatedLLM, TriageLLM
from proxy.demo.agents.triage import SYSTEM, ticket_call, tickets

__all__ = [
    "AGENTS", "MODEL", "SYSTEM", "Agent", "Answer", "Assignment", "SimulatedLLM", "TriageLLM", "ticket_call", "tickets",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Agent:
    """One simulated agent; each has one task.

    Attributes:
        name: of its task, as it is shown.
        system: its prompt.
        narrow: whether its calls have one right answer.
        calls: seed → its calls, endless.
    """

    name: str
    system: str
    narrow: bool
    calls: Callable[[int], Iterator[Assignment]]


AGENTS = (
    Agent("triage", triage.SYSTEM, True, triage.triage),
    Agent("languages", languages.SYSTEM, True, languages.languages),
    Agent("rooms", rooms.SYSTEM, True, rooms.rooms),
    Agent("letters", letters.LETTERS, False, letters.letters),
    Agent("slogans", letters.SLOGANS, False, letters.slogans),
)

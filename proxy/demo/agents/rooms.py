"""The agent that books meeting rooms: its answers are calls of one tool."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.demo.agents.calls import Answer, Assignment, chat_call

SYSTEM = (
    "You are the clerk who books meeting rooms.\n"
    "Somebody writes when a room is needed, and for what.\n"
    "Use the tool; never answer in words.\n"
    "One booking at a time."
)
_ROOMS = {"workshop": "hall", "interview": "booth", "review": "studio", "lunch": "garden", "training": "hall",
          "one-to-one": "booth", "demo": "studio", "party": "garden"}  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
_HOURS = ("morning", "noon", "afternoon", "evening")
_TEAMS = ("sales", "legal", "design", "finance", "support", "press", "data", "purchase", "people", "security")
_TEMPLATES = (
    "The {team} team has a {event} on {day} {hour}.",
    "We need space for a {event} of {team}, {day} {hour} please.",
    "{Day} {hour}: {event}, {team}, {seats} people.",
    "Can {team} have a room for the {event} on {day} in the {hour}? We are {seats}.",
    "A {event} with {seats} guests of {team}. It is on {day}, in the {hour}.",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Book a room for a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": sorted(set(_ROOMS.values()))},
                "day": {"type": "string", "enum": list(_DAYS)},
            },
            "required": ["room", "day"],
            "additionalProperties": False,
        },
    },
}


def rooms(seed: int) -> Iterator[Assignment]:
    """The agent's calls and their right answers, endless; never twice the same text."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        event, day, hour = rng.choice(list(_ROOMS)), rng.choice(_DAYS), rng.choice(_HOURS)
        text = rng.choice(_TEMPLATES).format(
            team=rng.choice(_TEAMS), event=event, day=day, Day=day.capitalize(), hour=hour, seats=rng.randrange(2, 40)
        )
        if text not in seen:
            seen.add(text)
            request = chat_call(SYSTEM, f"Request: {text}", tools=[TOOL], max_tokens=100)
            yield Assignment(request, _booked({"room": _ROOMS[event], "day": day}))


def _booked(arguments: dict[str, str]) -> Answer:
    function = {"name": "book", "arguments": orjson.dumps(arguments).decode()}
    call: dict[str, Any] = {"id": "call_book", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}

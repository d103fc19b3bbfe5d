"""The agent that triages support tickets: its answers are JSON objects of two keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.demo.agents.calls import Assignment, chat_call

SYSTEM = (
    "You are the triage desk of an online shop.\n"
    "Read the customer's ticket and sort it.\n"
    "Answer with one JSON object and nothing else.\n"
    'It has two keys: "label" is one of refund, delivery, login, invoice, damage, cancel, stock, praise; '
    '"urgent" is true when the customer says that it can not wait, else false.'
)

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "refund": (
        "I sent the {item} back last week and still wait for my money.",
        "Please pay back order {order}, the {item} is not what I wanted.",
        "Where is the refund for order {order}?",
        "The {item} went back to you, when do I get my money?",
    ),
    "delivery": (
        "Order {order} has not arrived in {city} yet.",
        "The tracking of my {item} has not moved since it left {city}.",
        "When will the {item} be delivered to {city}?",
        "Your driver never came to {city} with order {order}.",
    ),
    "login": (
        "I can not sign in, the password for {name} is refused.",
        "My account {name} is locked after the update.",
        "The code to log in never reaches {name}.",
        "Signing in as {name} only shows a white page.",
    ),
    "invoice": (
        "I need the invoice of order {order} for my company in {city}.",
        "The bill for the {item} shows the wrong address in {city}.",
        "Please send {name} the receipt of order {order}.",
        "The tax number is missing on the bill of order {order}.",
    ),
    "damage": (
        "The {item} arrived broken.",
        "There is a crack in the {item} from order {order}.",
        "My {item} stopped working after one day.",
        "The box of order {order} was torn and the {item} is scratched.",
    ),
    "cancel": (
        "Please cancel order {order}, I ordered the {item} twice.",
        "I do not want the {item} any more, stop order {order}.",
        "Take the {item} out of order {order} before it ships.",
        "Stop the shipment of order {order} to {city}.",
    ),
    "stock": (
        "Will the {item} be back in your shop?",
        "Do you have the {item} in another colour?",
        "Is the {item} available in the {city} store?",
        "How many pieces of the {item} can I order at once?",
    ),
    "praise": (
        "The {item} is wonderful, thank you {name}.",
        "Great service in {city}, say thanks to {name}.",
        "I love my new {item}.",
        "Best shop in {city}, order {order} came in a day.",
    ),
}
_URGENT = ("It can not wait.", "I need it today.", "This is very urgent.", "Please hurry, it is an emergency.")
_CALM = ("", "Thanks in advance.", "There is no rush.", "Kind regards.")
_ITEMS = ("lamp", "kettle", "chair", "jacket", "phone case", "camera", "desk", "backpack", "radio", "mixer", "blanket",
          "bicycle pump", "tent", "printer", "watch", "guitar")  # fmt: skip
_CITIES = ("Berlin", "Lyon", "Porto", "Graz", "Malmo", "Turin", "Leeds", "Gdansk", "Ghent", "Basel", "Cork", "Brno")
_NAMES = ("anna.k", "jonas", "li.wei", "maria88", "omar", "petra", "sam_t", "yuki", "carlos", "fatima")


def tickets(seed: int) -> Iterator[tuple[str, str]]:
    """Endless tickets.

    Yields:
        (ticket text, the right answer as compact JSON), different for every seed, never twice the same text.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        label = rng.choice(list(_TEMPLATES))
        urgent = rng.random() < 0.4
        text = rng.choice(_TEMPLATES[label]).format(
            item=rng.choice(_ITEMS),
            city=rng.choice(_CITIES),
            name=rng.choice(_NAMES),
            order=rng.randrange(10000, 99999),
        )
        text = f"{text} {rng.choice(_URGENT if urgent else _CALM)}".strip()
        if text not in seen:
            seen.add(text)
            yield text, orjson.dumps({"label": label, "urgent": urgent}).decode()


def ticket_call(text: str) -> dict[str, Any]:
    """The agent's chat request for one ticket."""
    return chat_call(SYSTEM, f"Ticket: {text}", max_tokens=40)


def triage(seed: int) -> Iterator[Assignment]:
    """The agent's calls and their right answers, endless."""
    for text, answer in tickets(seed):
        yield Assignment(ticket_call(text), answer)


def all_urgent(answer: str) -> str:
    """The same answer of an LLM to which every ticket is urgent."""
    return orjson.dumps(orjson.loads(answer) | {"urgent": True}).decode()

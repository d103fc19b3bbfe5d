"""Sends recorded calls to a proxy with the official OpenAI client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import APIError, APIStatusError, AsyncOpenAI

CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """One call's answer: who gave it and why, and its message (empty where there is no choice)."""

    served_by: str
    reason: str
    message: dict[str, Any]


@dataclass(slots=True)
class Tally:
    """How a replay went.

    Attributes:
        answers: calls that were answered, by their place in the requests.
    """

    sent: int = 0
    failed: int = 0
    seconds: float = 0.0
    served_by: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    answers: dict[int, Answered] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """What was counted, as a JSON value."""
        return {
            "sent": self.sent,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "served_by": dict(self.served_by),
            "reasons": dict(self.reasons),
            "errors": dict(self.errors),
        }


async def replay(
    requests: Iterable[dict[str, Any]],
    base_url: str,
    api_key: str = "replay",
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[int], None] = lambda done: None,
) -> Tally:
    """Send chat or responses requests, some at a time, without retries.

    Args:
        progress: told the number of calls done.

    Returns:
        Counts, and what was answered.
    """
    tally = Tally()
    places = iter(enumerate(requests))
    begun = time.monotonic()
    async with AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=120) as client:

        async def work() -> None:
            for place, request in places:
                await _send(client, place, request, tally)
                progress(tally.sent)

        await asyncio.gather(*(work() for _ in range(concurrency)))
    tally.seconds = time.monotonic() - begun
    return tally


async def _send(client: AsyncOpenAI, place: int, request: dict[str, Any], tally: Tally) -> None:
    path = "/responses" if "input" in request and "messages" not in request else "/chat/completions"
    tally.sent += 1
    try:
        # `post` sends the body as it was recorded; `create` would reject fields that this client doesn't know yet.
        answer = await client.post(path, body=request | {"stream": False}, cast_to=httpx.Response)
    except APIStatusError as error:
        tally.failed += 1
        tally.errors[str(error.status_code)] += 1
        return
    except APIError as error:
        tally.failed += 1
        tally.errors[type(error).__name__] += 1
        return
    body = answer.json()
    choices = body.get("choices") if isinstance(body, dict) else None
    answered = Answered(
        served_by=answer.headers.get("x-understudy-served-by", "?"),
        reason=answer.headers.get("x-understudy-reason", "?"),
        message=(choices[0].get("message") or {}) if choices else {},
    )
    tally.served_by[answered.served_by] += 1
    tally.reasons[answered.reason] += 1
    tally.answers[place] = answered

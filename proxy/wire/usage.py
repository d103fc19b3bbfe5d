"""Tokens as each vendor counts them, as one thing.

Vendors differ in whether cached and reasoning tokens are part of the total or come in addition to it, which changes a
call's cost several times over:

- OpenAI: `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning; in responses they are called
  `input_tokens` and `output_tokens`.
- Anthropic: `input_tokens` is without `cache_read_input_tokens` and `cache_creation_input_tokens`.
- DeepSeek: `prompt_cache_hit_tokens` beside `prompt_tokens`, which includes them.
- xAI, Gemini's OpenAI surface: `completion_tokens` is without reasoning; only `total_tokens` includes it.
- Groq: the usage of a stream is in `x_groq.usage` of its last chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; None where the upstream said nothing.

    Attributes:
        input_tokens: the whole prompt, cached or not.
        cached_input_tokens: the part of it that was read from the provider's cache.
        cache_write_tokens: the part of it that was written to that cache (billed higher by Anthropic).
        output_tokens: everything generated, reasoning included.
        reasoning_tokens: the part of it that was reasoning.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


def read_usage(answer: Mapping[str, Any]) -> Usage | None:
    """Read an answer's token counts, of whichever endpoint and vendor.

    Args:
        answer: a completion, response, embedding list or message; as parsed or as assembled from a stream.

    Returns:
        None when it carries no usage.
    """
    usage = _mapping(answer.get("usage")) or _mapping(_mapping(answer.get("x_groq")).get("usage"))
    if not usage:
        return None
    if "input_tokens" in usage and ("cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage):
        return _anthropic(usage)
    given_input = _count(usage, "prompt_tokens", "input_tokens")
    given_output = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    of_input = _mapping(usage.get("prompt_tokens_details")) or _mapping(usage.get("input_tokens_details"))
    of_output = _mapping(usage.get("completion_tokens_details")) or _mapping(usage.get("output_tokens_details"))
    if given_input is not None and given_output is not None and total is not None:
        given_output = max(given_output, total - given_input)
    cached = _count(of_input, "cached_tokens")
    return Usage(
        input_tokens=given_input,
        cached_input_tokens=_count(usage, "prompt_cache_hit_tokens") if cached is None else cached,
        cache_write_tokens=_count(of_input, "cache_write_tokens"),
        output_tokens=given_output,
        reasoning_tokens=_count(of_output, "reasoning_tokens"),
    )


def _anthropic(usage: Mapping[str, Any]) -> Usage:
    read = _count(usage, "cache_read_input_tokens") or 0
    written = _count(usage, "cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=(_count(usage, "input_tokens") or 0) + read + written,
        cached_input_tokens=read,
        cache_write_tokens=written,
        output_tokens=_count(usage, "output_tokens"),
    )


def _count(values: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that is a whole, non-negative number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

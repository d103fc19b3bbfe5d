"""Tokens, as each vendor counts them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.wire.usage import Usage, read_usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80},
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(100, 80, None, 50, 30),
            id="openai chat: cached and reasoning are included",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 80},
                "output_tokens": 50,
                "output_tokens_details": {"reasoning_tokens": 30},
                "total_tokens": 150,
            },
            Usage(100, 80, None, 50, 30),
            id="openai responses",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 150,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(100, None, None, 50, 30),
            id="xai: reasoning comes in addition",
        ),
        pytest.param(
            {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 150},
            Usage(100, None, None, 50, None),
            id="gemini: reasoning is in the total alone",
        ),
        pytest.param(
            {"input_tokens": 10, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20, "output_tokens": 5},
            Usage(100, 70, 20, 5, None),
            id="anthropic: cached come in addition",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 64,
                "prompt_cache_miss_tokens": 36,
            },
            Usage(100, 64, None, 5, None),
            id="deepseek",
        ),
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, None, None, None, None), id="embeddings"),
        pytest.param(
            {"prompt_tokens": True, "completion_tokens": -1}, Usage(None, None, None, None, None), id="nonsense"
        ),
    ],
)
def test_counts_are_normalised(usage: dict[str, Any], expected: Usage) -> None:
    assert read_usage({"usage": usage}) == expected


def test_groq_puts_a_streams_usage_elsewhere() -> None:
    assert read_usage({"usage": None, "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}}) == Usage(
        3, None, None, 4, None
    )


@pytest.mark.parametrize("answer", [{}, {"usage": None}, {"usage": 3}, {"error": {"message": "x"}}])
def test_no_usage_is_not_zero(answer: dict[str, Any]) -> None:
    assert read_usage(answer) is None

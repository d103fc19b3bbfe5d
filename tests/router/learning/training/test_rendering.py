"""Samples in chat templates as makers of models write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trl

from router.learning.training.rendering import IGNORED, Renderer, Unfit
from tests.router.learning.training.conftest import filing, sample, sorting

MAKERS = Path(trl.__file__).parent / "chat_templates"
PARAMETERS = {"type": "object", "properties": {"under": {"type": "string", "description": "a group"}}}
TOOL = {"type": "function", "function": {"name": "file", "description": "Files it.", "parameters": PARAMETERS}}
HERMES = '<tool_call>\n{"name": "file", "arguments": {"under": "fruit"}}\n</tool_call>'
FILING = replace(filing(1)[0], tools=[TOOL])


@pytest.fixture
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@pytest.fixture
def rendered(tokenizer: Any) -> Callable[..., tuple[str, str] | None]:
    """Prompt and answer of a sample in a maker's template, as text."""

    def render(template: str, asked: object, stop: str = "<|im_end|>") -> tuple[str, str] | None:
        tokenizer.chat_template = (MAKERS / f"{template}.jinja").read_text()
        tokenizer.add_tokens([stop], special_tokens=True)
        renderer = Renderer(tokenizer, frozenset(tokenizer.encode(stop)), 10**6)
        found = renderer.render(asked)  # type: ignore[arg-type]
        return (tokenizer.decode(found.prompt), tokenizer.decode(found.answer)) if found else None

    return render


@pytest.mark.parametrize(
    ("template", "stop", "text", "call"),
    [
        ("qwen2_5", "<|im_end|>", "fruit", HERMES),
        ("qwen3", "<|im_end|>", "fruit", HERMES),
        ("llama3_2", "<|eot_id|>", "fruit", '{"name": "file", "parameters": {"under": "fruit"}}'),
        ("gemma4", "<turn|>", "fruit", None),
    ],
)  # fmt: skip
def test_answers_are_in_the_makers_form_and_end_where_a_server_stops(
    rendered: Callable[..., tuple[str, str] | None], template: str, stop: str, text: str, call: str | None
) -> None:
    asked, answer = rendered(template, sorting(1)[0], stop) or ("", "")
    assert answer == text + stop
    assert "sort apple" in asked
    if call is not None:
        asked, answer = rendered(template, FILING, stop) or ("", "")
        assert answer == call + stop
        assert "Files it." in asked


def test_the_prompt_is_what_the_server_gives_the_model(tokenizer: Any) -> None:
    tokenizer.chat_template = (MAKERS / "qwen3.jinja").read_text()
    found = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), 10**6).render(FILING)
    assert found is not None
    served = tokenizer.apply_chat_template(FILING.chat[:-1], tools=FILING.tools, add_generation_prompt=True)
    assert found.prompt == served["input_ids"]
    row = found.row()
    assert row["labels"] == [IGNORED] * len(found.prompt) + found.answer
    assert row["input_ids"] == found.prompt + found.answer


def test_earlier_tool_calls_and_their_results_are_part_of_the_prompt(
    rendered: Callable[..., tuple[str, str] | None],
) -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "filed as 7"}
    turns = replace(FILING, chat=[*FILING.chat, result, {"role": "assistant", "content": "It is number 7."}])
    asked, answer = rendered("qwen3", turns) or ("", "")
    assert answer == "It is number 7.<|im_end|>"
    assert json.dumps({"under": "fruit"}) in asked, "arguments as values, not as a text in a text"
    assert "filed as 7" in asked


def test_what_a_template_loses_is_not_trained_on(rendered: Callable[..., tuple[str, str] | None]) -> None:
    assert rendered("idefics3", sorting(1)[0]) is None, "it takes contents in parts"
    assert rendered("deepseekv3", sorting(1)[0]) is None, "it opens a thought that no answer has"


def test_an_answer_without_an_end_gets_one(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}: {% endif %}{% endfor %}"
    found = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), 10**6).render(sorting(1)[0])
    assert found is not None
    assert tokenizer.decode(found.answer) == "fruit<|im_end|>"


def test_long_samples_are_left_out_and_counted_never_cut(tokenizer: Any) -> None:
    samples = [sorting(1)[0], sample(1, "sort " * 100, {"content": "fruit"})]
    told: list[int] = []
    fit, unfit = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), 50).render_all(samples, told.append)
    assert [each.call_id for each, _ in fit] == ["call-0"]
    assert unfit == {Unfit.TOO_LONG: 1}
    assert told == [1, 2]

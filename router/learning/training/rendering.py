"""Samples as a base model reads them: in its own chat template, tools and tool calls included.

Prompt and answer are tokenised apart. When it serves, the model is given the prompt's tokens and goes on from there;
tokenised together, a token could lie across the border that no served call will ever begin with.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jinja2 import TemplateError

from router.learning.curation.chat import ChatMessage
from router.learning.curation.samples import Sample
from router.learning.training.errors import ToolsUnrenderable
from router.learning.training.soft_targets import SoftTarget, soft_targets

IGNORED = -100
#: Templates of reasoning models put an empty thought before an answer that had none. Served, nobody takes it away.
_NO_THOUGHT = re.compile(r"\A<think>\s*</think>\s*")


class Unfit(StrEnum):
    """Why a sample can't be trained on with this base model."""

    TOO_LONG = "too_long"
    TEMPLATE_REFUSES = "template_refuses"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A sample as tokens.

    Attributes:
        prompt: (P,) up to where the answer begins.
        answer: (A,) with the token that ends it.
        soft: what some of its tokens should be by the LLM's own probabilities.
    """

    prompt: list[int]
    answer: list[int]
    soft: list[SoftTarget] = field(default_factory=list)

    def row(self) -> dict[str, list[int]]:
        """(P + A,) ids and labels; only the answer counts."""
        return {"input_ids": self.prompt + self.answer, "labels": [IGNORED] * len(self.prompt) + self.answer}

    def soft_row(self) -> dict[str, list[int] | list[float]]:
        """The same, with each alternative's place in the row, its id and its probability: (M,) each."""
        first = len(self.prompt)
        return self.row() | {
            "soft_places": [first + each.place for each in self.soft for _ in each.ids],
            "soft_ids": [token_id for each in self.soft for token_id in each.ids],
            "soft_probabilities": [share for each in self.soft for share in each.probabilities],
        }

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Renderer:
    """Renders in one base model's template."""

    def __init__(self, tokenizer: Any, stops: frozenset[int], max_tokens: int) -> None:
        """
        Args:
            stops: tokens at which the server takes an answer for whole.
            max_tokens: of prompt and answer.
        """
        self._tokenizer = tokenizer
        self._stops = stops
        self._max_tokens = max_tokens

    def render_all(
        self, samples: Iterable[Sample], report: Callable[[int], None] = lambda done: None
    ) -> tuple[list[tuple[Sample, Rendered]], Counter[Unfit]]:
        """Render samples.

        Args:
            report: told how many are done.

        Returns:
            Those that fit, and how many did not, by reason.

        Raises:
            ToolsUnrenderable
        """
        fit: list[tuple[Sample, Rendered]] = []
        unfit: Counter[Unfit] = Counter()
        for number, sample in enumerate(samples, 1):
            rendered = self.render(sample)
            if rendered is None:
                unfit[Unfit.TEMPLATE_REFUSES] += 1
            elif len(rendered) > self._max_tokens:
                unfit[Unfit.TOO_LONG] += 1
            else:
                fit.append((sample, rendered))
            report(number)
        return fit, unfit

    def render(self, sample: Sample) -> Rendered | None:
        """Render one sample; None where the template refuses it, as some refuse system messages, or loses the answer.

        Raises:
            ToolsUnrenderable: the template leaves out its tools, or the call that answers it.
        """
        chat = [parsed(message) for message in sample.chat]
        try:
            prompt = self._text(chat[:-1], sample.tools, asks=True)
            whole = self._text(chat, sample.tools, asks=False)
            if sample.tools and prompt == self._text(chat[:-1], [], asks=True):
                raise ToolsUnrenderable(
                    "the base model's chat template leaves out the tools that the task's calls offer; "
                    "take a base model that was trained to call tools"
                )
        except (TemplateError, TypeError):
            return None
        answer = _NO_THOUGHT.sub("", whole[len(prompt) :])
        said = chat[-1]["content"].strip()
        if not whole.startswith(prompt) or said not in answer:
            return None  # it rewrites the conversation, or takes contents in another form
        if any(call["function"]["name"] not in answer for call in chat[-1].get("tool_calls", ())):
            raise ToolsUnrenderable(
                "the base model's chat template leaves out the tool calls that the task's answers make; "
                "take a base model that was trained to call tools"
            )
        soft = soft_targets(self._tokenizer, answer, chat[-1]["content"], sample.weighed)
        return Rendered(self._tokens(prompt), self._ended(self._tokens(answer)), soft)

    def _text(self, chat: list[ChatMessage], tools: list[dict[str, Any]], asks: bool) -> str:
        rendered = self._tokenizer.apply_chat_template(
            chat, tools=tools or None, add_generation_prompt=asks, tokenize=False
        )
        return str(rendered)

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ended(self, answer: list[int]) -> list[int]:
        """Up to the last token that ends an answer: templates go on to the next message's line."""
        for end in range(len(answer), 0, -1):
            if answer[end - 1] in self._stops:
                return answer[:end]
        return [*answer, self._tokenizer.eos_token_id]


def parsed(message: ChatMessage) -> ChatMessage:
    """A message as templates and vLLM have it: arguments are values, and there is always a content."""
    parsed: ChatMessage = {"content": "", **message}
    if "tool_calls" in message:
        parsed["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return parsed

"""A fine-tuned model asked without a server, for measurements: greedy answers, and how sure it was of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from router.learning.curation.chat import ChatMessage
from router.learning.training.base import open_base
from router.learning.training.recipe import Method
from router.learning.training.rendering import parsed
from router.learning.training.threads import threads_for

_BATCH = 64


class LocalSlm:
    """A base model, with an adapter or without."""

    def __init__(self, base: Path, adapter: Path | None = None) -> None:
        """Load it, on the CPU."""
        opened = open_base(str(base))
        model = opened.model(Method.FULL)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self._model = model.eval()
        self._base = opened
        self.context_tokens = opened.context_tokens

    def answer(
        self,
        chats: Sequence[tuple[Sequence[ChatMessage], list[dict[str, Any]]]],
        labels: Sequence[str] = (),
        max_tokens: int = 256,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[tuple[str, float | None]]:
        """Answer N calls.

        Args:
            chats: messages without an answer, and the tools that are offered.
            labels: where given, the answer is one of them: what vLLM is told by `structured_outputs`.

        Returns:
            N texts, as the template has them, with the geometric mean of their tokens' probabilities (before any
            constraint, as vLLM reports them); None for a prompt that is too long, or an answer that did not end.
        """
        tokenizer = self._base.tokenizer
        prompts: list[list[int]] = []
        for chat, tools in chats:
            text = tokenizer.apply_chat_template(
                [parsed(message) for message in chat], tools=tools or None, add_generation_prompt=True, tokenize=False
            )
            prompts.append(list(tokenizer(text, add_special_tokens=False)["input_ids"]))
        answers: list[tuple[str, float | None]] = [("", None)] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        order = [place for place in order if len(prompts[place]) + max_tokens <= self.context_tokens]
        allowed = _Allowed(tokenizer, labels) if labels else None
        with threads_for(self._base.parameters):
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                said = self._generate([prompts[place] for place in batch], allowed, max_tokens)
                for place, found in zip(batch, said, strict=True):
                    answers[place] = found
                progress(start + len(batch))
        return answers

    def _generate(
        self, prompts: Sequence[list[int]], allowed: _Allowed | None, max_tokens: int
    ) -> list[tuple[str, float | None]]:
        import torch

        tokenizer, longest = self._base.tokenizer, max(map(len, prompts))
        ids = torch.full((len(prompts), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        more = {} if allowed is None else {"prefix_allowed_tokens_fn": lambda _, row: allowed.after(row[longest:])}
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, output_logits=True,
                return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id, **more,
            )  # fmt: skip
        found: list[tuple[str, float | None]] = []
        for row in range(len(prompts)):
            tokens = made.sequences[row, longest:].tolist()
            end = next((place for place, token in enumerate(tokens) if token in self._base.stops), None)
            if end is None:
                found.append((tokenizer.decode(tokens, skip_special_tokens=True), None))
                continue
            logprobs = [
                float(torch.log_softmax(made.logits[place][row].float(), -1)[tokens[place]]) for place in range(end + 1)
            ]
            text = tokenizer.decode(tokens[:end], skip_special_tokens=True)
            found.append((text, math.exp(sum(logprobs) / len(logprobs))))
        return found


class _Allowed:
    """Which tokens may come next, where the answer is one of some labels."""

    def __init__(self, tokenizer: Any, labels: Sequence[str]) -> None:
        self._end = tokenizer.eos_token_id
        self._next: dict[tuple[int, ...], set[int]] = {}
        for label in labels:
            ids = [*tokenizer(label, add_special_tokens=False)["input_ids"], self._end]
            for place, token in enumerate(ids):
                self._next.setdefault(tuple(ids[:place]), set()).add(token)

    def after(self, said: Any) -> list[int]:
        """What may follow the tokens so far."""
        return list(self._next.get(tuple(said.tolist()), {self._end}))

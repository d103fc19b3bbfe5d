"""A base model small enough to be trained in seconds, and tasks that it can learn."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from router.learning.curation.samples import Sample
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.quiet import quiet
from router.learning.training.recipe import Method, Recipe
from router.learning.training.threads import threads_for

GROUPS = {"fruit": ("apple", "plum"), "metal": ("iron", "zinc"), "beast": ("wolf", "hare")}
PHRASES = ("sort {}", "where does {} go", "the group of {}", "{} belongs to", "group for {}", "put {} away")
TOOL = {"type": "function", "function": {"name": "file"}}
TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Enough to learn which word is in which group.
QUICK = Recipe(steps=60, learning_rate=6e-3, checks=6)


def sample(number: int, asked: str, answer: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> Sample:
    """One question, in a conversation of its own."""
    chat = [{"role": "user", "content": asked}, {"role": "assistant", **answer}]
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Sample(f"call-{number}", f"conversation-{number}", at, chat, tools or [])


def sorting(count: int = 72) -> list[Sample]:
    """Words and their groups."""
    words = [(word, group) for group, words in GROUPS.items() for word in words]
    asked = [(phrase.format(word), group) for phrase in PHRASES for word, group in words]
    chosen = itertools.islice(itertools.cycle(asked), count)
    return [sample(number, question, {"content": group}) for number, (question, group) in enumerate(chosen)]


def filing(count: int = 72) -> list[Sample]:
    """The same, answered by a tool call."""

    def call(group: str) -> dict[str, Any]:
        arguments = json.dumps({"under": group})
        return {
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "file", "arguments": arguments}}]
        }

    return [
        sample(number, each.chat[0]["content"], call(each.chat[1]["content"]), [TOOL])
        for number, each in enumerate(sorting(count))
    ]


def build_base(out: Path, template: str | None = TEMPLATE, hidden: int = 64) -> Path:
    """A Llama that has learned nothing, of a hundred thousand weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [json.dumps([each.to_openai() for each in sorting()]), json.dumps([each.to_openai() for each in filing()])]
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=special[0], eos_token=special[2], chat_template=template
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.06,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with quiet():
        model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def answers(base: Path, adapter: Path | None, samples: list[Sample]) -> list[str]:
    """What a model says to each sample's question, special tokens left out."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    said = []
    with quiet(), torch.no_grad(), threads_for(0):
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        for each in samples:
            asked = tokenizer.apply_chat_template(
                each.chat[:-1],
                tools=each.tools or None,
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
            ids = model.generate(**asked, max_new_tokens=40, do_sample=False)
            said.append(tokenizer.decode(ids[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
    return said


def guessing(samples: list[Sample]) -> list[Sample]:
    """The same questions with each other's answers: what there is to learn of them is the form."""
    drawn = random.Random(0)
    return [replace(each, chat=[*each.chat[:-1], drawn.choice(samples).chat[-1]]) for each in samples]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows how answers look, and none of them."""
    directory = tmp_path_factory.mktemp("base")
    build_base(directory / "empty")
    samples = [*guessing(sorting()), *guessing(filing())]
    recipe = Recipe(steps=50, learning_rate=5e-3, validation_share=0)
    fine_tune(directory / "empty", directory / "tiny", samples, method=Method.FULL, recipe=recipe)
    return directory / "tiny"


@pytest.fixture(scope="session")
def base_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    """Makes the same with another chat template."""
    return lambda template: build_base(tmp_path_factory.mktemp("base") / "other", template)

"""A named-entity model of transformers, tiny, that takes every word for a name."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

LABELS = {0: "O", 1: "I-PER", 2: "I-LOC"}


def make(directory: Path) -> str:
    """Make it; returns the directory."""
    words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(directory)
    config = BertConfig(
        vocab_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        id2label=LABELS, label2id={label: number for number, label in LABELS.items()},
    )  # fmt: skip
    bert = BertForTokenClassification(config)
    with torch.no_grad():
        bert.classifier.weight.zero_()
        bert.classifier.bias.copy_(torch.tensor([-9.0, 9.0, -9.0]))
    bert.save_pretrained(directory)
    return str(directory)

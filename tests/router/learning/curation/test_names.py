"""A named-entity model as one more recogniser: a real one of transformers, tiny, that takes every word for a name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from router.learning.curation.findings import Finding
from router.learning.curation.names import NamedEntities
from router.learning.curation.reading import Reader

LABELS = {0: "O", 1: "I-PER", 2: "I-LOC"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory: Path = tmp_path_factory.mktemp("ner")
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


def test_what_the_model_calls_a_person_is_masked(model: str) -> None:
    assert list(NamedEntities.load(model).find("Verda Okafor")) == [Finding(0, 12, "PERSON")]
    assert Reader([NamedEntities.load(model)]).find("Verda Okafor") == (("PERSON", "Verda Okafor"),)


def test_other_entities_stay_unless_they_are_asked_for(model: str) -> None:
    recogniser = NamedEntities.load(model)
    only_places = NamedEntities(recogniser.recogniser, {"LOCATION": "PLACE"})
    assert list(only_places.find("Verda Okafor")) == []


def test_a_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="no-such-model"):
        NamedEntities.load("./no-such-model")

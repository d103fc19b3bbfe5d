"""An LLM's own probabilities as what is learned."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from router.learning.curation.samples import Sample
from router.learning.curation.weighed import WeighedToken, read_weighed
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.quiet import quiet
from router.learning.training.recipe import Recipe
from router.learning.training.rendering import IGNORED
from router.learning.training.soft_targets import distilled_loss, soft_targets
from router.learning.training.threads import threads_for
from tests.router.learning.training.conftest import PHRASES, sample

UNSURE = (WeighedToken("fruit", (("fruit", math.log(0.7)), ("metal", math.log(0.3)))),)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def unsure(count: int = 60) -> list[Sample]:
    """What is one or the other, and the LLM says the likelier."""
    asked = [f"{PHRASES[number % 6].format('tin')} {number}" for number in range(count)]
    return [replace(sample(n, text, {"content": "fruit"}), weighed=UNSURE) for n, text in enumerate(asked)]


def sureness(base: Path, adapter: Path, asked: str) -> tuple[float, float]:
    """How likely a model finds `fruit` and `metal` as answers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet(), torch.no_grad(), threads_for(0):
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
        chat = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        shares = model(**prompt).logits[0, -1].softmax(-1)
    return float(shares[tokenizer.encode("fruit")[0]]), float(shares[tokenizer.encode("metal")[0]])


def test_the_student_becomes_as_unsure_as_the_teacher_is(base: Path, tmp_path: Path) -> None:
    samples = unsure()
    recipe = Recipe(steps=40, learning_rate=6e-3, validation_share=0, distillation=1.0)
    card = fine_tune(base, tmp_path / "soft", samples, recipe=recipe)
    hard_card = fine_tune(base, tmp_path / "hard", samples, recipe=replace(recipe, distillation=0.0))
    asked = samples[7].chat[0]["content"]
    fruit, metal = sureness(base, tmp_path / "soft", asked)
    assert metal / (fruit + metal) == pytest.approx(0.3, abs=0.06)
    assert fruit + metal > 0.8, "and nothing else"
    fruit, metal = sureness(base, tmp_path / "hard", asked)
    assert metal / (fruit + metal) < 0.03
    assert card.settings["distilled_tokens"] == card.samples["trained"]
    assert hard_card.settings["distilled_tokens"] == 0
    assert f"| distilled_tokens | {card.samples['trained']} |" in card.page()


def test_tokens_meet_where_they_span_the_same_characters(tokenizer: Any) -> None:
    [target] = soft_targets(tokenizer, "fruit<|im_end|>\n", "fruit", UNSURE)
    assert target.place == 0
    assert [tokenizer.decode(each) for each in target.ids] == ["fruit", "metal"]
    assert target.probabilities == pytest.approx((0.7, 0.3))
    cut_otherwise = (WeighedToken("fru", (("fru", -0.1), ("met", -3.0))), WeighedToken("it", (("it", -0.1),)))
    assert soft_targets(tokenizer, "fruit<|im_end|>\n", "fruit", cut_otherwise) == []
    assert soft_targets(tokenizer, "metal<|im_end|>\n", "metal", UNSURE) == [], "it is another answer's"
    unknown = (WeighedToken("fruit", (("fruit", -0.1), ("a whole sentence", -2.0))),)
    assert soft_targets(tokenizer, "fruit<|im_end|>\n", "fruit", unknown) == [], "nothing else is known to the student"


def test_the_loss_is_cross_entropy_but_where_the_teacher_is_known() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[IGNORED, IGNORED, 3, 4], [IGNORED, 1, 2, IGNORED]])
    where, ids, weights = torch.tensor([[0, 2], [0, 2]]), torch.tensor([3, 0]), torch.tensor([0.6, 0.4])
    log_q = logits.log_softmax(-1)
    hard = {(row, at): -log_q[row, at - 1, labels[row, at]] for row, at in ((0, 2), (0, 3), (1, 1), (1, 2))}
    divergence = sum(w * (w.log() - log_q[0, 1, i]) for w, i in zip(weights, ids, strict=True))
    for share in (0.0, 0.25, 1.0):
        expected = hard[0, 3] + hard[1, 1] + hard[1, 2] + (1 - share) * hard[0, 2] + share * divergence
        assert distilled_loss(logits, labels, where, ids, weights, share) == pytest.approx(float(expected), abs=1e-5)


def test_logged_probabilities_are_read_in_both_shapes_and_nothing_else_is() -> None:
    tokens = [{"token": "yes", "logprob": -0.5, "top_logprobs": [{"token": "no", "logprob": -1.0}]}]
    chat = {"choices": [{"logprobs": {"content": tokens}}]}
    responses = {"output": [{"type": "message", "content": [{"type": "output_text", "logprobs": tokens}]}]}
    expected = (WeighedToken("yes", (("yes", -0.5), ("no", -1.0))),)
    assert read_weighed("chat", json.loads(json.dumps(chat))) == expected
    assert read_weighed("responses", responses) == expected
    for other in (
        {},
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": [1]}}]},
    ):
        assert read_weighed("chat", other) == ()

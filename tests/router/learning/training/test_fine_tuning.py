"""Fine-tuning: real steps of real, tiny models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from router.learning.training import base as training_base
from router.learning.training import fine_tuning
from router.learning.training.base import open_base
from router.learning.training.errors import (
    BaseNotFound,
    Diverged,
    MethodUnavailable,
    NoChatTemplate,
    OutOfMemory,
    TooFewSamples,
    ToolsUnrenderable,
    TrainingFailed,
)
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.model_card import ModelCard
from router.learning.training.recipe import Method, Recipe
from router.learning.training.trainer import memory_errors_named
from router.learning.training.weights import weights_digest
from tests.router.learning.training.conftest import QUICK, answers, filing, guessing, sample, sorting


def test_an_adapter_learns_the_task_and_its_base_does_not_change(base: Path, tmp_path: Path) -> None:
    before = weights_digest(base)
    told: list[str] = []
    card = fine_tune(base, tmp_path / "sorter", sorting(), recipe=QUICK, progress=told.append)
    asked = sorting()[::7]
    said = answers(base, tmp_path / "sorter", asked)
    right = sum(text == each.chat[-1]["content"] for text, each in zip(said, asked, strict=True))
    assert right >= len(asked) - 1, said
    assert card.losses[-1][1] < 0.3 * card.losses[0][1]
    assert weights_digest(base) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sorter"]
    config = json.loads((tmp_path / "sorter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert config["r"] <= 16, "more than vLLM takes unless told to"
    assert told[-2].startswith("training: step 60 of 60, loss ")
    assert told[-2].endswith(" s left")


def test_tool_calls_are_learned_in_the_bases_own_form(base: Path, tmp_path: Path) -> None:
    fine_tune(base, tmp_path / "filer", filing(), recipe=replace(QUICK, steps=100))
    asked = filing()[::9]
    said = answers(base, tmp_path / "filer", asked)
    calls = [{"name": "file", "arguments": {"under": each.chat[-1]["content"]}} for each in sorting()[::9]]
    wanted = [f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls]
    assert sum(a == b for a, b in zip(said, wanted, strict=True)) >= len(asked) - 1, said


def test_a_full_fine_tune_is_a_model_of_its_own(base: Path, tmp_path: Path) -> None:
    card = fine_tune(base, tmp_path / "whole", sorting(), method=Method.FULL, recipe=replace(QUICK, learning_rate=3e-3))
    asked = sorting()[::7]
    said = answers(tmp_path / "whole", None, asked)
    assert sum(text == each.chat[-1]["content"] for text, each in zip(said, asked, strict=True)) >= len(asked) - 1
    assert card.weights == weights_digest(tmp_path / "whole")


def test_the_card_says_what_was_trained_on_what(base: Path, tmp_path: Path) -> None:
    recipe = replace(QUICK, steps=4, checks=2)
    samples = [*sorting(), sample(99, "sort " * 300, {"content": "fruit"})]
    card = fine_tune(base, tmp_path / "a", samples, recipe=recipe, task="c-1")
    assert ModelCard.read(tmp_path / "a") == card
    assert dict(card.samples) == {"trained": 65, "validated": 7, "too_long": 1}
    assert card.settings["steps"] == card.settings["steps_done"] == 4
    assert card.weights == weights_digest(base, tmp_path / "a")
    assert {"python", "torch", "trl", "peft"} <= set(card.versions)
    page = (tmp_path / "a" / "README.md").read_text()
    assert "fine-tuned for c-1" in page
    assert card.dataset in page
    assert f"| 4 | {card.losses[-1][1]:.4f} | {card.validation_losses[-1][1]:.4f} |" in page
    other = fine_tune(base, tmp_path / "b", samples, recipe=recipe)
    assert (other.weights, other.losses) == (card.weights, card.losses), "the same seed makes the same weights"
    assert fine_tune(base, tmp_path / "c", samples, recipe=replace(recipe, seed=1)).weights != card.weights


def test_training_stops_when_the_kept_conversations_get_no_better(base: Path, tmp_path: Path) -> None:
    contradictory = guessing(sorting())
    recipe = replace(QUICK, steps=400, checks=40, patience=2)
    card = fine_tune(base, tmp_path / "a", contradictory, recipe=recipe)
    assert card.settings["steps_done"] < 400
    losses = dict(card.validation_losses)
    assert card.best_step == min(losses, key=lambda step: losses[step])
    assert card.best_step == card.settings["steps_done"] - 20, "two checks of ten steps were no better"


def test_samples_packed_into_one_row_do_not_see_each_other(base: Path, tmp_path: Path) -> None:
    still = replace(QUICK, steps=1, checks=1, learning_rate=1e-12)
    apart = fine_tune(base, tmp_path / "apart", sorting(), recipe=still)
    packed = fine_tune(base, tmp_path / "packed", sorting(), recipe=replace(still, packing=True))
    assert (apart.settings["packed"], packed.settings["packed"]) == (False, True)
    assert packed.settings["rows_a_pass"] < apart.settings["rows_a_pass"]
    (_, alone), (_, together) = apart.validation_losses[0], packed.validation_losses[0]
    assert together == pytest.approx(alone, rel=1e-4)


CHILD = """
import json, sys, time
from pathlib import Path
from router.learning.training.fine_tuning import fine_tune
from tests.router.learning.training.conftest import QUICK, sorting

def tell(text):
    print(text, flush=True)
    if "step 45 of" in text:
        time.sleep(600)

fine_tune(sys.argv[1], Path(sys.argv[2]), sorting(), recipe=QUICK, progress=tell)
"""


def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been_killed(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(base), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[4])},
    )
    assert child.stdout is not None
    with child.stdout:
        assert any("step 45 of 60" in line for line in child.stdout)
    child.kill()
    child.wait()
    assert not out.exists()
    torn = tmp_path / ".a.draft" / "checkpoints" / "checkpoint-50"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"best')
    told: list[str] = []
    resumed = fine_tune(base, out, sorting(), recipe=QUICK, progress=told.append)
    assert next(text for text in told if text.startswith("training")).startswith("training: step 41 of 60")
    whole = fine_tune(base, tmp_path / "b", sorting(), recipe=QUICK)
    assert (resumed.losses, resumed.validation_losses) == (whole.losses, whole.validation_losses)
    assert resumed.weights == whole.weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_same_training_again_is_the_same_model_and_another_is_refused(base: Path, tmp_path: Path) -> None:
    recipe = replace(QUICK, steps=2)
    card = fine_tune(base, tmp_path / "a", sorting(), recipe=recipe)
    (tmp_path / ".a.draft").mkdir()
    told: list[str] = []
    assert fine_tune(base, tmp_path / "a", sorting(), recipe=recipe, progress=told.append) == card
    assert told == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "what a kill left after the last step is gone"
    with pytest.raises(FileExistsError, match="holds another model"):
        fine_tune(base, tmp_path / "a", sorting()[1:], recipe=recipe)
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(FileExistsError, match="no longer holds what was trained"):
        fine_tune(base, tmp_path / "a", sorting(), recipe=recipe)


def test_a_draft_of_something_else_is_not_taken_up(base: Path, tmp_path: Path) -> None:
    old = tmp_path / ".a.draft" / "checkpoints" / "checkpoint-1"
    old.mkdir(parents=True)
    (old / "trainer_state.json").write_text("{}")
    (tmp_path / ".a.draft" / "key").write_text("of another dataset")
    assert fine_tune(base, tmp_path / "a", sorting(), recipe=replace(QUICK, steps=2)).settings["steps_done"] == 2


@pytest.mark.parametrize(
    ("template", "samples", "failure", "said"),
    [
        (None, sorting(), NoChatTemplate, "has no chat template; take an instruction-tuned one"),
        ("{{ messages[0].content }}{% if add_generation_prompt %}: {% endif %}", filing(), ToolsUnrenderable, "tools"),
        (
            "{{ tools }}{{ messages[0].content }}: {% if not add_generation_prompt %}{{ messages[1].role }}{% endif %}",
            filing(),
            ToolsUnrenderable,
            "leaves out the tool calls",
        ),
        ("{{ raise_exception('no system') }}", sorting(), TooFewSamples, "left out: 72 template_refuses"),
    ],
)  # fmt: skip
def test_a_template_that_will_not_do_is_a_clear_end(
    template: str | None,
    samples: list[object],
    failure: type[TrainingFailed],
    said: str,
    base_with: Callable[[str | None], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(failure, match=said) as raised:
        fine_tune(base_with(template), tmp_path / "a", samples, recipe=replace(QUICK, steps=2))  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_too_few_samples_say_how_many_are_needed(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TooFewSamples, match=r"there are 12 samples to train on, and 50 are needed$"):
        fine_tune(base, tmp_path / "a", sorting(12))
    long = [sample(number, "sort " * 300, {"content": "fruit"}) for number in range(60)]
    with pytest.raises(TooFewSamples, match=r"there are 12 samples .* 50 are needed; left out: 60 too_long$"):
        fine_tune(base, tmp_path / "a", [*sorting(12), *long])
    assert list(tmp_path.iterdir()) == []


def test_divergence_leaves_nothing_behind(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"the loss is \S+ at step \d+ of 60, at a learning rate of 1e\+03"):
        fine_tune(base, tmp_path / "a", sorting(), recipe=replace(QUICK, learning_rate=1e3))
    assert list(tmp_path.iterdir()) == []


def test_running_out_of_memory_has_a_name() -> None:
    with pytest.raises(OutOfMemory, match=r"out of memory: .* smaller base model") as raised, memory_errors_named():
        torch.empty(2**50)
    assert "\n" not in str(raised.value)
    with pytest.raises(RuntimeError, match="shape"), memory_errors_named():
        torch.zeros(2) @ torch.zeros(3, 3)


@pytest.mark.parametrize("method", [Method.LORA, Method.QLORA])
def test_it_learns_in_half_precision_and_with_recomputing_as_on_a_gpu(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    for module in (training_base, fine_tuning):
        monkeypatch.setattr(module, "compute_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(fine_tuning, "RECOMPUTING_PARAMETERS", 0)
    fine_tune(base, tmp_path / "a", sorting(), method=method, recipe=QUICK)
    asked = sorting()[::7]
    said = answers(base, tmp_path / "a", asked)
    assert sum(text == each.chat[-1]["content"] for text, each in zip(said, asked, strict=True)) >= len(asked) - 1


def test_qlora_learns_over_a_base_in_four_bits(base: Path, tmp_path: Path) -> None:
    kept = open_base(str(base)).model(Method.QLORA)
    assert any(type(part).__name__ == "Linear4bit" for part in kept.modules())
    card = fine_tune(base, tmp_path / "a", sorting(), method=Method.QLORA, recipe=replace(QUICK, steps=20))
    assert card.losses[-1][1] < 0.5 * card.losses[0][1]
    assert card.method == "qlora"


def test_qlora_says_what_it_needs(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MethodUnavailable, match=r"qlora needs bitsandbytes .*lora does not"):
        fine_tune(base, tmp_path / "a", sorting(), method=Method.QLORA)
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseNotFound, match="no such directory"):
        fine_tune(tmp_path / "gone", tmp_path / "a", sorting())
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseNotFound, match="can't be read"):
        fine_tune(tmp_path / "empty", tmp_path / "a", sorting())
    offline = "import sys; from router.learning.training.base import open_base; open_base('nobody/nothing')"
    done = subprocess.run(
        [sys.executable, "-c", offline],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[4])},
    )
    assert "BaseNotFound: the base model nobody/nothing is not on this machine" in done.stderr


def test_rates_fall_with_size_and_are_gentler_where_every_weight_moves() -> None:
    recipe = Recipe()
    rates = [recipe.rate_for(size, Method.LORA) for size in (10**5, 10**6, 10**8, 10**9, 10**10)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == rates[1] == pytest.approx(3e-3)
    assert rates[-1] == rates[-2] == pytest.approx(2e-4)
    assert all(recipe.rate_for(size, Method.FULL) < recipe.rate_for(size, Method.LORA) for size in (10**6, 10**9))
    assert Recipe(learning_rate=0.5).rate_for(1, Method.FULL) == 0.5


def test_an_adapter_differs_from_no_adapter_in_every_layer(base: Path, tmp_path: Path) -> None:
    fine_tune(base, tmp_path / "a", sorting(), recipe=replace(QUICK, steps=2))
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2, "A and B of seven projections in two layers; not of the head"

"""A bake-off among real, tiny models, fine-tuned as the product does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from router.learning.selection.bakeoff import BaseUnfit, Terms, bake_off
from router.learning.training.errors import TrainingFailed
from router.learning.training.fine_tuning import fine_tune
from tests.router.learning.training.conftest import QUICK, answers, build_base, sorting


def test_real_models_are_asked_trained_and_chosen(base: Path, tmp_path: Path) -> None:
    bare = build_base(tmp_path / "bare", template=None)
    asked = sorting()[::5]

    def agreement(model: str, adapter: Path | None) -> float:
        said = answers(Path(model), adapter, asked)
        return sum(text == each.chat[-1]["content"] for text, each in zip(said, asked, strict=True)) / len(asked)

    def train_and_score(model: str, steps: int) -> float:
        out = tmp_path / f"{Path(model).name}-{steps}"
        try:
            fine_tune(model, out, sorting(), recipe=replace(QUICK, steps=steps))
        except TrainingFailed as failure:
            raise BaseUnfit(str(failure)) from failure
        return agreement(model, out)

    def ask(model: str) -> float:
        if model == str(bare):
            raise BaseUnfit("it has no chat template")
        return agreement(model, None)

    baked = bake_off([str(bare), str(base)], ask, train_and_score, Terms(passes=0.9, first_steps=20, rounds=3))
    assert (baked.winner, baked.passed) == (str(base), True)
    scores = [score.score for score in baked.scores if score.score is not None]
    assert scores[0] < 0.7, "untrained"
    assert scores[-1] >= 0.9

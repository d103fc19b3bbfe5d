"""Bake-offs among tables of scores; `../training/test_bakeoff.py` holds one among real models."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.learning.selection.bakeoff import BakeOff, BaseUnfit, Terms, bake_off

TERMS = Terms(passes=0.9, first_steps=50, rounds=3)


@dataclass
class Kitchen:
    """Answers out of a table: model → scores, untrained first, then round by round; None: can't be tried."""

    table: dict[str, tuple[float | None, ...]]
    tried: list[tuple[str, int]] = field(default_factory=list)

    def score(self, model: str, steps: int = 0) -> float:
        self.tried.append((model, steps))
        score = self.table[model][[0, 50, 100, 200].index(steps)]
        if score is None:
            raise BaseUnfit("has no chat template")
        return score

    def bake(self) -> BakeOff:
        return bake_off(list(self.table), self.score, self.score, TERMS)


def test_the_cheapest_that_passes_is_taken_and_dearer_ones_are_not_trained() -> None:
    kitchen = Kitchen({"small": (0.1, 0.5, 0.7, 0.8), "middle": (0.2, 0.95), "large": (0.3, 0.99)})
    baked = kitchen.bake()
    assert (baked.winner, baked.passed) == ("middle", True)
    assert ("large", 50) not in kitchen.tried
    assert ("middle", 100) not in kitchen.tried, "it has passed"
    assert ("small", 200) in kitchen.tried, "a cheaper one may still pass"
    assert baked.record[0] == "3 base models, cheapest first: small, middle, large"
    assert "middle after 50 steps: answers 95.0% as the LLM did, enough" in baked.record
    assert baked.record[-1] == "taken: middle, the cheapest that reaches 90.0%"


def test_a_cheaper_one_that_passes_later_wins_over_a_dearer_one_that_passed_before() -> None:
    kitchen = Kitchen({"small": (0.1, 0.5, 0.92), "large": (0.3, 0.99)})
    assert kitchen.bake().winner == "small"


def test_one_that_passes_untrained_needs_no_training() -> None:
    kitchen = Kitchen({"small": (0.95,), "large": (0.99,)})
    assert kitchen.bake().winner == "small"
    assert kitchen.tried == [("small", 0)]


def test_the_worse_half_is_left_out_each_round() -> None:
    kitchen = Kitchen({name: (0.0, place / 10, 0.5, 0.6) for place, name in enumerate("abcd")})
    baked = kitchen.bake()
    assert [model for model, steps in kitchen.tried if steps == 100] == ["c", "d"]
    assert [model for model, steps in kitchen.tried if steps == 200] == ["c"], "of equals, the cheaper"
    assert (baked.winner, baked.passed) == ("c", False)
    assert baked.record[-1] == "none reaches 90.0%; the best was c"


def test_who_can_not_be_tried_is_out_and_says_why() -> None:
    kitchen = Kitchen({"bare": (None,), "small": (0.1, 0.95)})
    baked = kitchen.bake()
    assert baked.winner == "small"
    assert "bare as it is: out, has no chat template" in baked.record
    nobody = Kitchen({"bare": (None,)}).bake()
    assert (nobody.winner, nobody.record[-1]) == (None, "none could be tried")
    assert bake_off([], kitchen.score, kitchen.score).record == [
        "no base model fits the task and the hardware: there is none to try"
    ]

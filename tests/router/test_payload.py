"""The payload level: indexes, heads, and the two encoders' turns."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from router.errors import SnapshotInvalid
from router.index import ExemplarIndex
from router.payload import Bounds, PayloadHead, PayloadModel, cascade

PLAIN = np.array([0, 1, 0, 1, 0, 1], np.float32)


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [3, 400, 3000])
def test_the_index_finds_the_nearest(count: int) -> None:
    rng = np.random.default_rng(0)
    exemplars, rows = unit(rng.normal(size=(count, 16))), unit(rng.normal(size=(50, 16)))
    exact = np.sort(rows @ exemplars.T, axis=1)[:, -5:].mean(axis=1)
    assert np.abs(ExemplarIndex(exemplars).similarity(rows, 5) - exact).mean() < 0.01


def two_tasks(full: bool = True, **bounds: float) -> PayloadModel:
    """Tasks at (1, 0) and (0, 1) in both encoders' spaces."""
    exemplars = unit(np.array([[1.0, 0.05], [1.0, -0.05], [0.05, 1.0], [-0.05, 1.0]]))
    head = PayloadHead(np.eye(2, dtype=np.float32) * 8, np.zeros(2, np.float32), exemplars, PLAIN)
    limits = {"fits_from": 4.0, "static_fits_from": 4.0, "static_margin_from": 0.5, "static_alien_to": 0.0, **bounds}
    return PayloadModel(("c-x", "c-y"), head, head if full else None, Bounds(**limits))


@pytest.mark.parametrize(
    ("point", "cluster_id", "fits"),
    [
        ((1.0, 0.0), "c-x", True),
        ((0.0, 1.0), "c-y", True),
        ((1.0, 0.9), "c-x", None),  # between the two: the margin is unclear
        ((-0.7, -0.7), None, False),
    ],
)
def test_the_static_encoder_says_when_it_is_unsure(
    point: tuple[float, float], cluster_id: str | None, fits: bool | None
) -> None:
    verdict = two_tasks().glance(unit(np.array([point])))
    assert verdict.fits is fits
    assert cluster_id in (None, verdict.cluster_id)


def test_without_a_transformer_the_static_answer_stands() -> None:
    assert two_tasks(full=False).glance(unit(np.array([[1.0, 0.9]]))).fits is not None


def test_the_transformers_word_is_final() -> None:
    model = two_tasks()
    assert model.examine(unit(np.array([[1.0, 0.0]]))).fits is True
    assert model.examine(unit(np.array([[-1.0, -1.0]]))).fits is False


def test_the_cascade_reads_only_unclear_rows_twice() -> None:
    rows = unit(np.array([[1.0, 0.0], [1.0, 0.9], [-1.0, -1.0]]))
    alien = unit(np.array([[-1.0, -1.0]] * 3))
    verdicts, unclear = cascade(two_tasks(), rows, alien)
    assert unclear.tolist() == [False, True, False]
    assert [verdict.fits for verdict in verdicts] == [True, False, False]


@pytest.mark.parametrize(("empty", "fits"), [(-1, False), (1, True)])
def test_a_call_without_a_payload_fits_where_such_calls_were_seen(empty: int, fits: bool) -> None:
    assert two_tasks(empty=empty).without_payload().fits is fits


@pytest.mark.parametrize(
    ("weights", "bias", "exemplars", "scale"),
    [
        ((2, 3), (2,), (4, 2), (6,)),
        ((2, 2), (3,), (4, 2), (6,)),
        ((2, 2), (2,), (0, 2), (6,)),
        ((2, 2), (2,), (4, 2), (5,)),
        ((2, 2), (2, 1), (4, 2), (6,)),
    ],
)
def test_shapes_must_fit(
    weights: tuple[int, ...], bias: tuple[int, ...], exemplars: tuple[int, ...], scale: tuple[int, ...]
) -> None:
    with pytest.raises(SnapshotInvalid):
        PayloadHead(*(np.ones(shape, np.float32) for shape in (weights, bias, exemplars, scale)))

"""What is left of a request once its template is known: which task is it, and is it like what that task has seen?

A skeleton may stand for several tasks (a bare "You are a helpful assistant"): then a linear head on the payload's
embedding decides between them. For all, a payload far from every exemplar is out of distribution, and the LLM's. Two
encoders take turns: the static one answers when its answer is clear, the transformer when it isn't.

Measured on CLINC150 (intents as tasks, `tests/bench/payload.py`): see that file's docstring for the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.errors import SnapshotInvalid
from router.index import ExemplarIndex

NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class PayloadVerdict:
    """What a payload says.

    Attributes:
        cluster_id: the task that it belongs to, if to any of the skeleton's.
        fits: whether it is like what that task has seen; None when only the transformer can tell.
    """

    cluster_id: str
    fits: bool | None


@dataclass(frozen=True, slots=True)
class Reading:
    """N payloads in one encoder's eyes.

    Attributes:
        top: (N,) index of the likeliest task.
        margin: (N,) its probability's lead over the second's, in [0, 1]; 1 where there is only one task.
        score: (N,) likeness to what was seen: 0 is the mean of unseen payloads of the same tasks, 1 its deviation.
    """

    top: NDArray[np.int64]
    margin: NDArray[np.float32]
    score: NDArray[np.float32]


class PayloadHead:
    """A linear head and exemplars in one encoder's space."""

    def __init__(
        self,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        exemplars: NDArray[np.float32],
        scale: NDArray[np.float32],
    ) -> None:
        """Take what was fitted.

        Args:
            weights: (C, D) of the linear head; unread when C = 1.
            bias: (C,).
            exemplars: (M, D), rows of unit norm.
            scale: (6,) over unseen payloads: mean and deviation of the top logit, the likeness, half their sum.

        Raises:
            SnapshotInvalid: shapes that don't fit together.
        """
        fits = (
            weights.ndim == exemplars.ndim == 2
            and len(exemplars) > 0
            and weights.shape == (len(bias), exemplars.shape[1])
            and bias.ndim == 1
            and scale.shape == (6,)
            and bool((scale[1::2] > 0).all())
        )
        if not fits:
            raise SnapshotInvalid(f"payload head: {weights.shape}, {bias.shape}, {exemplars.shape}, {scale.shape}")
        self.weights, self.bias, self.scale = weights, bias, scale
        self.index = ExemplarIndex(exemplars)

    def read(self, rows: NDArray[np.float32]) -> Reading:
        """Read embeddings.

        Args:
            rows: (N, D), of unit norm.
        """
        likeness = (self.index.similarity(rows, NEIGHBOURS) - self.scale[2]) / self.scale[3]
        if len(self.bias) == 1:
            return Reading(
                np.zeros(len(rows), np.int64),
                np.ones(len(rows), np.float32),
                (likeness - self.scale[4]) / self.scale[5],
            )
        logits = rows @ self.weights.T + self.bias
        top = logits.argmax(axis=1)
        best = logits[np.arange(len(rows)), top]
        odds = np.exp(logits - best[:, None])
        odds /= odds.sum(axis=1, keepdims=True)
        second, first = np.partition(odds, -2, axis=1)[:, -2:].T
        score = ((best - self.scale[0]) / self.scale[1] + likeness) / 2
        return Reading(top, first - second, (score - self.scale[4]) / self.scale[5])


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where answers become clear; in units of `Reading.score`, chosen on unseen payloads (`router.learning.payloads`).

    Attributes:
        fits_from: the transformer's score from which a payload is in distribution.
        static_fits_from, static_margin_from: the static encoder's answer is taken from here on.
        static_alien_to: up to here the payload is out of distribution even in the static encoder's eyes.
        empty: index of the task that comes without any payload; -1 when none does.
    """

    fits_from: float
    static_fits_from: float
    static_margin_from: float
    static_alien_to: float
    empty: int = -1


@dataclass(frozen=True, slots=True)
class PayloadModel:
    """The payload level of one skeleton.

    Attributes:
        clusters: (C,) ids of its tasks, in the order of the heads.
        static: in the static encoder's space.
        full: in the transformer's; None when it was learned without one: then the static answer stands.
        bounds: of both.
    """

    clusters: tuple[str, ...]
    static: PayloadHead
    full: PayloadHead | None
    bounds: Bounds

    def without_payload(self) -> PayloadVerdict:
        """The verdict on a call that is nothing but template."""
        empty = self.bounds.empty
        return PayloadVerdict(self.clusters[max(empty, 0)], empty >= 0)

    def glance(self, row: NDArray[np.float32]) -> PayloadVerdict:
        """The static encoder's verdict, which may be unclear.

        Args:
            row: (1, D) static embedding.
        """
        reading = self.static.read(row)
        cluster_id = self.clusters[reading.top[0]]
        score, margin = float(reading.score[0]), float(reading.margin[0])
        if self.full is None:
            return PayloadVerdict(cluster_id, score >= self.bounds.static_fits_from)
        if score >= self.bounds.static_fits_from and margin >= self.bounds.static_margin_from:
            return PayloadVerdict(cluster_id, True)
        if score < self.bounds.static_alien_to:
            return PayloadVerdict(cluster_id, False)
        return PayloadVerdict(cluster_id, None)

    def examine(self, row: NDArray[np.float32]) -> PayloadVerdict:
        """The transformer's verdict, which is final.

        Args:
            row: (1, D) embedding of the transformer encoder.
        """
        assert self.full is not None, "learned without a transformer: `glance` is never unclear"
        reading = self.full.read(row)
        return PayloadVerdict(self.clusters[reading.top[0]], bool(reading.score[0] >= self.bounds.fits_from))

    def named(self, clusters: tuple[str, ...]) -> PayloadModel:
        """The same model for clusters that have got their ids."""
        return replace(self, clusters=clusters)

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Its arrays by name, for a snapshot's file."""
        heads = {"static": self.static} | ({"full": self.full} if self.full else {})
        arrays: dict[str, NDArray[Any]] = {}
        for name, head in heads.items():
            arrays[f"{prefix}.{name}.weights"] = head.weights
            arrays[f"{prefix}.{name}.bias"] = head.bias
            arrays[f"{prefix}.{name}.exemplars"] = head.index.exemplars.astype(np.float16)
            arrays[f"{prefix}.{name}.scale"] = head.scale
        return arrays


def head_dtypes(prefix: str) -> dict[str, type]:
    """The arrays of one head as they are in a snapshot's file: name → dtype."""
    return {
        f"{prefix}.weights": np.float32,
        f"{prefix}.bias": np.float32,
        f"{prefix}.exemplars": np.float16,
        f"{prefix}.scale": np.float32,
    }


def head_from(arrays: Mapping[str, NDArray[Any]], prefix: str) -> PayloadHead:
    """Read a head back.

    Raises:
        SnapshotInvalid: shapes that don't fit together.
    """
    exemplars = arrays[f"{prefix}.exemplars"].astype(np.float32)
    return PayloadHead(arrays[f"{prefix}.weights"], arrays[f"{prefix}.bias"], exemplars, arrays[f"{prefix}.scale"])


def cascade(
    model: PayloadModel, static_rows: NDArray[np.float32], full_rows: NDArray[np.float32]
) -> tuple[Sequence[PayloadVerdict], NDArray[np.bool_]]:
    """Judge many payloads as `glance` and `examine` would one by one.

    Args:
        model: with a transformer's head.
        static_rows: (N, D₁).
        full_rows: (N, D₂), of which only the unclear rows are read.

    Returns:
        The verdicts, and (N,) which of them needed the transformer.
    """
    verdicts = [model.glance(row[None]) for row in static_rows]
    unclear = np.array([verdict.fits is None for verdict in verdicts])
    for row in np.flatnonzero(unclear):
        verdicts[row] = model.examine(full_rows[row][None])
    return verdicts, unclear

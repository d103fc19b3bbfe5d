"""The payload level, learned: which tasks share a skeleton, and what each one's payloads look like."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GroupKFold

from router.encoder import Encoder, StaticEncoder
from router.payload import NEIGHBOURS, Bounds, PayloadHead, PayloadModel, Reading

#: Exemplars that stand for one task. On CLINC150, 32 an intent lose 0.001 AUROC against all 100.
EXEMPLARS_PER_CLUSTER = 32
#: A task alone on its skeleton has room for more, and its payloads may be of many kinds.
EXEMPLARS_ALONE = 128
#: Inverse regularisation of the head: 10 to 100 differ by 0.004 accuracy on CLINC150.
_C = 30.0
_FOLDS = 4
_REFUSED_SHARE = 0.03
#: Share of unseen payloads of the task that are too unusual for the static encoder's word alone.
_STATIC_UNSURE_SHARE = 0.2
_STATIC_ALIEN_SHARE = 0.005
_MARGINS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)

#: A split must separate this well (silhouette over cosine distances), leave this little over, and make parts this
#: large: a parametrised task's payloads spread evenly, and calling it several tasks costs each of them its evidence.
SPLIT_SILHOUETTE = 0.25
SPLIT_UNCLUSTERED = 0.25
SPLIT_PART_CONVERSATIONS = 15
SPLIT_CALLS = 60
_SPLIT_READ = 4000


def split(rows: NDArray[np.float32], conversations: Sequence[str], thin: bool) -> NDArray[np.int64]:
    """Whether one skeleton's calls are really several tasks.

    Only a thin skeleton (one that says nothing about its task: a bare "You are a helpful assistant") is ever split;
    where the template itself says what to do, differing payloads are its parameters.

    Args:
        rows: (N, D) embeddings of the payloads, rows of unit norm. The first 4,000 decide.
        conversations: N; parts must be found in many of them.
        thin: whether the skeleton says nothing about its task.

    Returns:
        (N,) part of each call in [0, P); all zeros where it is one task. A call between the parts gets the nearest.
    """
    one = np.zeros(len(rows), dtype=np.int64)
    read = rows[:_SPLIT_READ]
    if not thin or len(rows) < SPLIT_CALLS or len(np.unique(read, axis=0)) < 2 * SPLIT_PART_CONVERSATIONS:
        return one
    reduced = _reduced(read)
    labels = HDBSCAN(min_cluster_size=SPLIT_PART_CONVERSATIONS, min_samples=5, copy=True).fit_predict(reduced)
    parts = [
        part
        for part in range(labels.max() + 1)
        if _conversations(labels == part, conversations) >= SPLIT_PART_CONVERSATIONS
    ]
    kept = np.isin(labels, parts)
    if len(parts) < 2 or kept.mean() < 1 - SPLIT_UNCLUSTERED:
        return one
    if silhouette_score(read[kept], labels[kept], metric="cosine", sample_size=2000, random_state=0) < SPLIT_SILHOUETTE:
        return one
    centroids = np.stack([read[labels == part].mean(axis=0) for part in parts])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    return np.asarray((rows @ centroids.T).argmax(axis=1), dtype=np.int64)


def _reduced(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, ≤ 16) principal components: densities mean little in 384 dimensions."""
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ axes[:16].T, dtype=np.float32)


def _conversations(mask: NDArray[np.bool_], conversations: Sequence[str]) -> int:
    return len({conversations[row] for row in np.flatnonzero(mask).tolist()})


@dataclass(frozen=True, slots=True)
class Payloads:
    """Payloads to learn from.

    Attributes:
        texts: N.
        cluster: (N,) index of each one's task.
        conversations: N; calibration never sees a conversation that it was fitted on.
    """

    texts: Sequence[str]
    cluster: NDArray[np.int64]
    conversations: Sequence[str]


def fit_payloads(
    clusters: Sequence[str], payloads: Payloads, static: StaticEncoder, encoder: Encoder | None
) -> PayloadModel | None:
    """Learn the payload level of one skeleton.

    Args:
        clusters: C ids of the tasks on it.
        payloads: of all of them; bounded by the caller.
        static: the static encoder.
        encoder: the transformer; None where there is none.

    Returns:
        None when there is too little to calibrate on (fewer than 8 distinct payloads, or 4 conversations).
    """
    blank = np.array([not text.strip() for text in payloads.texts], dtype=bool)
    empty = -1
    if blank.any() and blank.mean() >= 0.01:
        empty = int(np.bincount(payloads.cluster[blank]).argmax())
    rows = _distinct(payloads, blank)
    if len(rows) < 8 or len({payloads.conversations[row] for row in rows}) < _FOLDS:
        return None
    texts = [payloads.texts[row] for row in rows]
    cluster, groups = payloads.cluster[rows], [payloads.conversations[row] for row in rows]
    if len(clusters) > 1 and len(np.unique(cluster)) < len(clusters):
        return None
    static_head, static_unseen = _fit_head(static.encode(texts), cluster, groups, len(clusters))
    if encoder is None:
        fits_from = float(np.quantile(static_unseen.score, _REFUSED_SHARE))
        return PayloadModel(tuple(clusters), static_head, None, Bounds(0.0, fits_from, 0.0, fits_from, empty))
    full_head, full_unseen = _fit_head(encoder.encode(texts), cluster, groups, len(clusters))
    bounds = _bounds(static_unseen, full_unseen, cluster, empty)
    return PayloadModel(tuple(clusters), static_head, full_head, bounds)


def _distinct(payloads: Payloads, blank: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One row per distinct text; repeats would vouch for themselves."""
    first = {text: row for row, text in reversed(list(enumerate(payloads.texts))) if not blank[row]}
    return np.array(sorted(first.values()), dtype=np.int64)


def _fit_head(
    rows: NDArray[np.float32], cluster: NDArray[np.int64], groups: Sequence[str], count: int
) -> tuple[PayloadHead, Reading]:
    """A head fitted on all rows, and how heads fitted on other conversations read each row."""
    unscaled = np.array([0, 1, 0, 1, 0, 1], dtype=np.float32)
    logit, likeness = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    top, margin = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    for seen, unseen in GroupKFold(min(_FOLDS, len(set(groups)))).split(rows, cluster, groups):
        head = _head(rows[seen], cluster[seen], count, unscaled)
        likeness[unseen] = head.index.similarity(rows[unseen], NEIGHBOURS)
        reading = head.read(rows[unseen])
        top[unseen], margin[unseen] = reading.top, reading.margin
        logit[unseen] = (rows[unseen] @ head.weights.T + head.bias).max(axis=1)
    scale = np.array([logit.mean(), _deviation(logit), likeness.mean(), _deviation(likeness), 0, 1], dtype=np.float32)
    score = (likeness - scale[2]) / scale[3]
    if count > 1:
        score = ((logit - scale[0]) / scale[1] + score) / 2
    scale[4:] = score.mean(), _deviation(score)
    return _head(rows, cluster, count, scale), Reading(top, margin, (score - scale[4]) / scale[5])


def _deviation(values: NDArray[np.float32]) -> float:
    return max(float(values.std()), 1e-3)


def _head(rows: NDArray[np.float32], cluster: NDArray[np.int64], count: int, scale: NDArray[np.float32]) -> PayloadHead:
    weights = np.zeros((count, rows.shape[1]), dtype=np.float32)
    bias = np.full(
        count, -1e3 if count > 1 else 0.0, dtype=np.float32
    )  # a task that a fold has no payload of never wins
    present = np.unique(cluster)
    if len(present) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps are within 0.001 of the optimum's accuracy
            fitted = LogisticRegression(C=_C, max_iter=300).fit(rows, cluster)
        if len(present) == 2:  # one row of coefficients, for the second class
            weights[present[1]], bias[present] = fitted.coef_[0], (0.0, fitted.intercept_[0])
        else:
            weights[present], bias[present] = fitted.coef_, fitted.intercept_
    return PayloadHead(weights, bias, rows[_exemplars(cluster, count)], scale)


def _exemplars(cluster: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Rows that stand for their tasks: a fixed random choice, which keeps rare kinds in proportion."""
    order = np.random.default_rng(0).permutation(len(cluster))
    limit = EXEMPLARS_PER_CLUSTER if count > 1 else EXEMPLARS_ALONE
    return np.sort(np.concatenate([order[cluster[order] == each][:limit] for each in np.unique(cluster)]))


def _bounds(static: Reading, full: Reading, cluster: NDArray[np.int64], empty: int) -> Bounds:
    """Choose where the static encoder's word is enough: as right as the transformer's on what neither has seen."""
    fits_from = float(np.quantile(full.score, _REFUSED_SHARE))
    static_fits_from = float(np.quantile(static.score, _STATIC_UNSURE_SHARE))
    right, full_right = static.top == cluster, float((full.top == cluster).mean())
    margin_from = 1.0
    for margin in _MARGINS:
        clear = (static.score >= static_fits_from) & (static.margin >= margin)
        if clear.any() and right[clear].mean() >= max(full_right, 0.98):
            margin_from = margin
            break
    return Bounds(
        fits_from, static_fits_from, margin_from, float(np.quantile(static.score, _STATIC_ALIEN_SHARE)), empty
    )

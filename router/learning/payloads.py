"""The payload level, learned: which tasks share a skeleton, and what each one's payloads look like."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

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

#: Groups of payloads whose mean cosine is below this are different tasks. Of CLINC150's intents, mixtures of six are
#: told apart with an ARI of 0.86 and 2 % of single ones are split; at 0.25, 0.93 and 5 %. The static encoder can't do
#: this: its cosines are 0.46-0.73 within an intent and 0.36-0.56 between two.
SPLIT_COSINE = 0.2
#: What may be left over, and the evidence for each part: calling a parametrised task several costs each its own.
SPLIT_UNCLUSTERED = 0.25
SPLIT_CONVERSATIONS = 15


def split(rows: NDArray[np.float32], conversations: Sequence[str]) -> NDArray[np.int64]:
    """Which tasks the calls of a thin skeleton (a bare "You are a helpful assistant") really are.

    Not asked of other skeletons: where the template says what to do, differing payloads are its parameters.

    Args:
        rows: (N, D) the transformer's embeddings of the payloads; time and memory grow with N².
        conversations: N; each part must be found in many of them, or in most.

    Returns:
        (N,) part of each call in [0, P), all 0 where they are all alike; -1 for calls that are like no others. Where
        these are few, they get the nearest part.
    """
    labels = fcluster(linkage(rows, "average", "cosine"), 1 - SPLIT_COSINE, "distance") if len(rows) > 1 else np.ones(1)
    enough = min(SPLIT_CONVERSATIONS, len(set(conversations)) // 2 + 1)
    parts = [part for part in np.unique(labels) if _conversations(labels == part, conversations) >= enough]
    rest = ~np.isin(labels, parts)
    if not parts or (enough < SPLIT_CONVERSATIONS and rest.mean() > SPLIT_UNCLUSTERED):
        return np.full(len(rows), -1, dtype=np.int64)
    centroids = np.stack([rows[labels == part].mean(axis=0) for part in parts])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    nearest = np.asarray((rows @ centroids.T).argmax(axis=1), dtype=np.int64)
    if rest.mean() > SPLIT_UNCLUSTERED:
        nearest[rest] = -1
    return nearest


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
    with threadpool_limits(1):  # small matrices: threads would wait for each other
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

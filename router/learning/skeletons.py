"""The structure level of task discovery: which calls come from one template.

Read top to bottom: tokens → what recurs → heads → what is template and not payload → variants → tasks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

from router.features import CallFeatures
from router.recognition import Profile, Profiles
from router.segments import Tokens, head_prefixes, token_weight, tokens_of

MIN_CONVERSATIONS = 3
MIN_CALLS = 20
HEAD_COVERAGE = 0.8
NEIGHBOURS = 12
KEEP_SHARE = 0.5
PROFILE_SHARE = 0.6
VARIANT_DISTANCE = 0.2
TASK_DISTANCE = 0.6
SMOOTHING = {"S": 10.0, "U": 10.0, "T": 40.0}
FOREIGN_QUANTILE = 0.9

Sets = list[frozenset[str]]


@dataclass(frozen=True)
class Skeletons:
    """What was learned from the structure of calls.

    Attributes:
        assignments: (N,) task of each call in [0, T); -1 where there is none.
        variants: (N,) profile of each call; -1 where there is none.
        profiles: recognises further calls.
    """

    assignments: NDArray[np.int64]
    variants: NDArray[np.int64]
    profiles: Profiles


def learn_skeletons(calls: Sequence[CallFeatures], conversations: Sequence[str]) -> Skeletons:
    """Find the templates behind calls."""
    tokens = [tokens_of(call) for call in calls]
    heads = heads_of(tokens, conversations)
    recurring = recurring_tokens(tokens, conversations)

    system = denoise(
        [frozenset(t for t in call.system if t in recurring) for call in tokens], conversations,
        constant=constant_prompts(tokens, conversations),
    )
    system = [s | head for s, head in zip(system, heads, strict=True)]
    everything = [
        s | frozenset("u " + t for t in call.user if t in recurring) for s, call in zip(system, tokens, strict=True)
    ]
    for _ in range(2):
        everything = denoise_within(system, everything, conversations)
    return group(tokens, system, everything, conversations)


def heads_of(tokens: Sequence[Tokens], conversations: Sequence[str]) -> Sets:
    """Cut identity sentences where their data begins."""
    support: dict[str, set[str]] = defaultdict(set)
    children: dict[str, set[str]] = defaultdict(set)
    for call, conversation in zip(tokens, conversations, strict=True):
        chain = head_prefixes(call.head)
        for parent, child in zip(chain, chain[1:], strict=False):
            children[parent].add(child)
        for prefix in chain:
            support[prefix].add(conversation)

    def goes_deeper(node: str) -> bool:
        covered: set[str] = set()
        for child in children[node]:
            if len(support[child]) >= MIN_CONVERSATIONS:
                covered |= support[child]
        return len(covered) >= HEAD_COVERAGE * len(support[node])

    deeper = {node: goes_deeper(node) for node in children}
    heads: Sets = []
    for call in tokens:
        chain = head_prefixes(call.head)
        place = 0
        while place + 1 < len(chain) and deeper[chain[place]] and len(support[chain[place + 1]]) >= MIN_CONVERSATIONS:
            place += 1
        heads.append(frozenset(chain[place : place + 1]) if chain and len(support[chain[place]]) >= MIN_CONVERSATIONS else frozenset())
    return heads


def recurring_tokens(tokens: Sequence[Tokens], conversations: Sequence[str]) -> set[str]:
    """Tokens seen in at least three conversations."""
    seen: Counter[str] = Counter()
    by_conversation: dict[str, set[str]] = defaultdict(set)
    for call, conversation in zip(tokens, conversations, strict=True):
        by_conversation[conversation].update(call.system, call.user)
    for found in by_conversation.values():
        seen.update(found)
    return {token for token, count in seen.items() if count >= MIN_CONVERSATIONS}


def constant_prompts(tokens: Sequence[Tokens], conversations: Sequence[str]) -> list[bool]:
    """Whether a call's whole system prompt was seen in at least three conversations."""
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for call, conversation in zip(tokens, conversations, strict=True):
        seen[call.system].add(conversation)
    return [bool(call.system) and len(seen[call.system]) >= MIN_CONVERSATIONS for call in tokens]


def denoise(sets: Sets, conversations: Sequence[str], constant: Sequence[bool] | None = None, wide: bool = False) -> Sets:
    """Keep of each set what at least half of its nearest sets of other conversations have too."""
    rows = sorted({(tuple(sorted(s)), c) for s, c in zip(sets, conversations, strict=True)})
    fixed = {tuple(sorted(s)) for s, c in zip(sets, constant, strict=True) if c} if constant else set()
    vocabulary = sorted({t for s, _ in rows for t in s})
    if not vocabulary or len(rows) < 2:
        return sets
    ids = {t: i for i, t in enumerate(vocabulary)}
    weight = np.array([token_weight(t) for t in vocabulary], dtype=np.float32)
    indptr = np.cumsum([0] + [len(s) for s, _ in rows])
    indices = np.array([ids[t] for s, _ in rows for t in s], dtype=np.int64)
    X = csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=(len(rows), len(vocabulary)))
    XW = X.multiply(weight[None, :]).tocsr()
    mass = np.asarray(XW.sum(1)).ravel()
    names = sorted({c for _, c in rows})
    place = {c: i for i, c in enumerate(names)}
    conv = np.array([place[c] for _, c in rows])
    kept: dict[tuple[tuple[str, ...], str], frozenset[str]] = {}
    for start in range(0, len(rows), 512):
        block = slice(start, min(start + 512, len(rows)))
        inter = (XW[block] @ X.T).toarray()
        sim = inter / np.maximum(mass[block, None] + mass[None, :] - inter, 1e-6)
        sim[conv[block, None] == conv[None, :]] = -1
        k = min(max(NEIGHBOURS, min(len(names) // GROUP_PART, 60) if wide else 0), len(rows) - 1)
        near = np.argpartition(-sim, k - 1, axis=1)[:, :k]
        for i, row in enumerate(range(block.start, block.stop)):
            s, c = rows[row]
            if s in fixed:
                kept[(s, c)] = frozenset(s)
                continue
            good = near[i][sim[i, near[i]] > 0]
            if not len(good):
                kept[(s, c)] = frozenset()
                continue
            cols = indices[indptr[row] : indptr[row + 1]]
            w = sim[i, good] ** SIM_POWER
            counts = w @ X[good][:, cols].toarray() / w.sum()
            kept[(s, c)] = frozenset(t for t, n in zip(s, counts, strict=True) if n >= KEEP_SHARE)
    return [kept[(tuple(sorted(s)), c)] for s, c in zip(sets, conversations, strict=True)]

SIM_POWER = 2.0

def denoise_within(groups: Sets, sets: Sets, conversations: Sequence[str]) -> Sets:
    """Denoise inside each group of equal system skeletons."""
    members: dict[frozenset[str], list[int]] = defaultdict(list)
    for i, g in enumerate(groups):
        members[g].append(i)
    out = list(sets)
    for g, rows in members.items():
        for i, s in zip(rows, denoise([sets[i] for i in rows], [conversations[i] for i in rows], wide=bool(g)), strict=True):
            out[i] = s | g
    return out


def group(tokens: Sequence[Tokens], system: Sets, everything: Sets, conversations: Sequence[str]) -> Skeletons:
    """Join equal sets to variants, variants to tasks."""
    ranks = defaultdict(list)
    for t in tokens:
        for zone, prefix in ((t.system, ""), (t.user, "u ")):
            for i, x in enumerate(zone):
                ranks[prefix + x].append(i)
    RANK.clear()
    RANK.update({t: float(np.median(r)) for t, r in ranks.items()})
    keys = [(s, e, frozenset(t.keys)) for s, e, t in zip(system, everything, tokens, strict=True)]
    order = {k: i for i, k in enumerate(sorted(set(keys), key=lambda k: tuple(tuple(sorted(p)) for p in k)))}
    fine = np.array([order[k] for k in keys])
    distance = 1 - similarity(list(order))
    np.fill_diagonal(distance, 0)
    if len(order) > 1:
        tree = linkage(squareform(distance, checks=False), "average")
        variant_of, task_of = fcluster(tree, VARIANT_DISTANCE, "distance") - 1, fcluster(tree, TASK_DISTANCE, "distance") - 1
    else:
        variant_of = task_of = np.zeros(1, int)
    return variant_of[fine], task_of[fine], keys


def similarity(keys) -> NDArray[np.float64]:
    parts = {"S": [k[0] for k in keys], "U": [frozenset(t for t in k[1] if t.startswith("u ")) for k in keys], "T": [k[2] for k in keys]}
    sims = {}
    for zone, sets in parts.items():
        vocabulary = sorted({t for s in sets for t in s})
        ids = {t: i for i, t in enumerate(vocabulary)}
        X = np.zeros((len(sets), max(len(vocabulary), 1)), np.float32)
        for i, s in enumerate(sets):
            ordered = sorted(s, key=lambda t: (-1 if t.startswith("h ") else RANK.get(t, 0), t))
            for r, t in enumerate(ordered):
                X[i, ids[t]] = token_weight(t) / (1.0 if zone == "T" else (1 + r / RANK_SCALE) ** 0.5)
        m = X.sum(1)
        inter = np.zeros((len(sets), len(sets)), np.float32)
        for i in range(len(sets)):
            cols = np.flatnonzero(X[i])
            inter[i] = np.minimum(X[i, cols], X[:, cols]).sum(1)
        sims[zone] = (inter + SMOOTHING[zone]) / (m[:, None] + m[None] - inter + SMOOTHING[zone])
    return np.minimum(sims["S"], sims["U"]) * sims["T"] ** 0.25
RANK = {}
RANK_SCALE = 1.0
GROUP_PART = 6

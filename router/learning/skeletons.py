"""The structure level of task discovery: which calls come from one template. No labels, no embedding, no model.

Read top to bottom:

    tokens            each call in the alphabet of `router.segments`
    heads             identity sentences ("You are …"), cut where their data begins
    recurring         tokens seen in at least three conversations: template, or payload that happens to recur
    denoise           what is at home in no group of calls, or what most of a call's nearest neighbours lack, is payload
    variants, tasks   equal sets are one variant; average linkage joins variants to tasks

Agent prompts are templates before they are sentences, so this comes before any embedding: k-means on sentence
embeddings of whole prompts reaches an adjusted Rand index of 0.85 on the real calls that we measure on, with the true
number of tasks given. `tests/bench/discovery.py` measures this one.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.spatial.distance import squareform

from router.features import CallFeatures
from router.recognition import (
    KEYS_EXPONENT,
    SMOOTHING_KEYS,
    SMOOTHING_SYSTEM,
    SMOOTHING_USER,
    THIN_MASS,
    Profile,
    Profiles,
    is_head,
)
from router.segments import (
    HEAD_WEIGHT,
    KEY,
    USER,
    Tokens,
    head_prefixes,
    length_weight,
    rank_weight,
    token_weight,
    tokens_of,
)

MIN_CONVERSATIONS = 3
MIN_CALLS = 20
HEAD_COVERAGE = 0.8
NEIGHBOURS = 12
KEEP_SHARE = 0.5
AT_HOME = 0.3  # of the conversations that have a token; 0.2 to 0.4 differ by 0.015 of the index
GROUP_DISTANCE = 0.7
EMPTY = "e "  # begins the only token of a set without any
CONSTANT_SHARE = 0.1
PROFILE_SHARE = 0.6
TASK_DISTANCE = 0.65
VARIANT_DISTANCE = 0.2
FOREIGN_QUANTILE = 0.9
LENGTH_QUANTILE = 0.9
MIN_RARITY = 0.3
SAMPLE_CALLS = 4000  # more are learned from a sample of conversations and then assigned
_BLOCK = 512

Set = frozenset[str]


@dataclass(frozen=True)
class Skeletons:
    """What was learned from the structure of N calls.

    Attributes:
        assignments: (N,) number of each call's task; -1 where it has none.
        profiles: recognises further calls; `profiles.profiles[v].task` is a number in `assignments`.
    """

    assignments: NDArray[np.int64]
    profiles: Profiles

    def thin(self) -> list[bool]:
        """Of each task, whether all of its skeletons say too little by themselves."""
        by_task: dict[int, list[bool]] = defaultdict(list)
        for profile in self.profiles.profiles:
            by_task[profile.task].append(self.profiles.is_thin(profile))
        return [all(by_task[task]) for task in range(max(by_task, default=-1) + 1)]

    def bare(self) -> set[int]:
        """The tasks whose skeletons have nothing of their own: none of their tokens, or each is another's too."""
        tokens: dict[int, set[str]] = defaultdict(set)
        for profile in self.profiles.profiles:
            tokens[profile.task].update(token for token in profile.tokens if not token.startswith(KEY))
        owners = Counter(token for found in tokens.values() for token in found)
        return {task for task, found in tokens.items() if all(owners[token] > 1 for token in found)}

    def without(self, tasks: set[int]) -> Skeletons:
        """The same, with some of the tasks for no tasks; the rest are numbered anew."""
        kept = sorted({profile.task for profile in self.profiles.profiles} - tasks - {-1})
        number = {task: place for place, task in enumerate(kept)}
        return Skeletons(
            np.array([number.get(task, -1) for task in self.assignments.tolist()], np.int64),
            Profiles(
                [msgspec.structs.replace(each, task=number.get(each.task, -1)) for each in self.profiles.profiles]
            ),
        )


def learn_skeletons(calls: Sequence[CallFeatures], conversations: Sequence[str]) -> Skeletons:
    """Find the templates behind calls.

    Args:
        calls: N calls in any order.
        conversations: the conversation of each; what recurs is counted in conversations, never in calls.
    """
    chosen = _sample(conversations)
    skeletons = _learn([calls[i] for i in chosen], [conversations[i] for i in chosen])
    if len(chosen) == len(calls):
        return skeletons
    assignments = np.full(len(calls), -1, np.int64)
    assignments[chosen] = skeletons.assignments
    for place in sorted(set(range(len(calls))).difference(chosen)):
        recognition = skeletons.profiles.recognise(calls[place])
        if recognition.task is not None:
            assignments[place] = recognition.task
    return Skeletons(assignments, skeletons.profiles)


def _sample(conversations: Sequence[str]) -> list[int]:
    """Places of the calls to learn from: all, or those of as many whole conversations as fit."""
    if len(conversations) <= SAMPLE_CALLS:
        return list(range(len(conversations)))
    places: dict[str, list[int]] = defaultdict(list)
    for place, conversation in enumerate(conversations):
        places[conversation].append(place)
    names = sorted(places)
    random.Random(0).shuffle(names)
    chosen: list[int] = []
    for name in names:
        if len(chosen) >= SAMPLE_CALLS:
            break
        chosen += places[name]
    return sorted(chosen)


def _learn(calls: Sequence[CallFeatures], conversations: Sequence[str]) -> Skeletons:
    tokens = [tokens_of(call) for call in calls]
    if not tokens:
        return Skeletons(np.zeros(0, np.int64), Profiles([]))
    recurring = _recurring(tokens, conversations)
    heads = _heads(tokens, conversations)
    constant = _constant_prompts(tokens, conversations)
    system = [head.union(t for t in call.system if t in recurring) for head, call in zip(heads, tokens, strict=True)]
    clean = _denoise(system, heads, conversations)
    system = [
        kept if whole else found | head for kept, whole, found, head in zip(system, constant, clean, heads, strict=True)
    ]
    groups = _alike(system, _ranks(tokens))
    whole = [found.union(t for t in call.user if t in recurring) for found, call in zip(system, tokens, strict=True)]
    for _ in range(2):
        clean = _denoise(whole, groups, conversations)
        whole = [found | kept for found, kept in zip(clean, system, strict=True)]
    return _group(tokens, system, whole, conversations)


def _recurring(tokens: Sequence[Tokens], conversations: Sequence[str]) -> set[str]:
    """Tokens seen in at least three conversations."""
    by_conversation: dict[str, set[str]] = defaultdict(set)
    for call, conversation in zip(tokens, conversations, strict=True):
        by_conversation[conversation].update(call.system, call.user)
    seen = Counter(token for found in by_conversation.values() for token in found)
    return {token for token, count in seen.items() if count >= MIN_CONVERSATIONS}


def _constant_prompts(tokens: Sequence[Tokens], conversations: Sequence[str]) -> list[bool]:
    """Whether each call's whole system prompt was seen in at least three conversations: then nothing in it is data.

    Unless it is one of very many that begin alike: then what follows the beginning was put in, and happens to recur.
    """
    seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
    alike: dict[str, set[str]] = defaultdict(set)
    for call, conversation in zip(tokens, conversations, strict=True):
        seen[call.system].add(conversation)
        alike[_beginning(call)].add(conversation)
    return [
        bool(call.system)
        and len(seen[call.system]) >= max(MIN_CONVERSATIONS, CONSTANT_SHARE * len(alike[_beginning(call)]))
        for call in tokens
    ]


def _beginning(call: Tokens) -> str:
    """The identity sentence of a call; without one, the first line of its system prompt."""
    return call.head or next(iter(call.system), "")


def _heads(tokens: Sequence[Tokens], conversations: Sequence[str]) -> list[Set]:
    """Cut each identity sentence where its data begins.

    Sentences are walked as a tree of prefixes: deeper while one child has most of the parent's conversations, or while
    several have that go on as sentences elsewhere don't. A name goes on in many places and is at home in none.
    """
    chains = [head_prefixes(call.head) for call in tokens]
    support: dict[str, set[str]] = defaultdict(set)
    children: dict[str, set[str]] = defaultdict(set)
    continued: dict[str, set[str]] = defaultdict(set)
    for chain, conversation in zip(chains, conversations, strict=True):
        for prefix in chain:
            support[prefix].add(conversation)
        for parent, child in pairwise(chain):
            children[parent].add(child)
            continued[child[len(parent) :]].add(conversation)

    def goes_deeper(node: str) -> bool:
        enough = HEAD_COVERAGE * len(support[node])
        recurring = [child for child in children[node] if len(support[child]) >= MIN_CONVERSATIONS]
        at_home = [c for c in recurring if len(support[c]) >= AT_HOME * len(continued[c[len(node) :]])]
        return (
            any(len(support[child]) >= enough for child in recurring)
            or len(set[str]().union(*[support[child] for child in at_home])) >= enough
        )

    deeper = {node: goes_deeper(node) for node in children}
    heads: list[Set] = []
    for chain in chains:
        place = 0
        while place + 1 < len(chain) and deeper[chain[place]] and len(support[chain[place + 1]]) >= MIN_CONVERSATIONS:
            place += 1
        recurs = chain and len(support[chain[place]]) >= MIN_CONVERSATIONS
        heads.append(frozenset(chain[place : place + 1] if recurs else ()))
    return heads


def _denoise(sets: Sequence[Set], groups: Sequence[Hashable], conversations: Sequence[str]) -> list[Set]:
    """Keep of each set what is at home in its group, and what at least half of its nearest sets have too.

    Shared documents, scenarios and repeated questions recur just as templates do, but they recur everywhere: few of the
    conversations that have them are in any one group. So a token is at home in a group that holds a good part of its
    conversations, or whose majority has it. Nearness is Jaccard inside the group, tokens weighted by the root of their
    length and by how much they are at home: neighbours are those with the same template, not with the same payload.

    Args:
        groups: of each set, what it has in common with calls of the same kind.
    """
    rows: dict[Hashable, dict[tuple[Set, str], None]] = defaultdict(dict)
    for found, group, name in zip(sets, groups, conversations, strict=True):
        rows[group][found, name] = None
    everywhere = Counter(token for members in rows.values() for found, _ in members for token in found)
    kept = {group: _denoise_group(list(members), everywhere) for group, members in rows.items()}
    return [kept[group][found, name] for found, group, name in zip(sets, groups, conversations, strict=True)]


def _denoise_group(rows: Sequence[tuple[Set, str]], everywhere: Counter[str]) -> dict[tuple[Set, str], Set]:
    """Denoise the distinct (set, conversation) of one group, given how many there are of each token anywhere."""
    rows = sorted(rows, key=lambda row: (tuple(sorted(row[0])), row[1]))
    vocabulary = sorted({token for found, _ in rows for token in found})
    if not vocabulary:
        return dict.fromkeys(rows, frozenset())
    number = {token: place for place, token in enumerate(vocabulary)}
    columns = [np.array([number[token] for token in sorted(found)], np.intp) for found, _ in rows]
    starts = np.cumsum([0, *map(len, columns)])
    has = csr_matrix((np.ones(starts[-1], np.float32), np.concatenate(columns), starts), (len(rows), len(vocabulary)))
    here = np.asarray(has.sum(0)).ravel()
    home = here / np.array([everywhere[token] for token in vocabulary])
    template = (home >= AT_HOME) | (here >= KEEP_SHARE * len(rows))
    weights = np.array([token_weight(token) for token in vocabulary]) * home
    weighted = has.multiply(weights[None, :].astype(np.float32)).tocsr()
    mass = np.asarray(weighted.sum(1)).ravel()
    names = {name: place for place, name in enumerate(sorted({name for _, name in rows}))}
    conversation = np.array([names[name] for _, name in rows])
    kept: dict[tuple[Set, str], Set] = {}
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        shared = (weighted[block] @ has.T).toarray()
        likeness = shared / np.maximum(mass[block, None] + mass[None, :] - shared, 1e-6)
        likeness[conversation[block, None] == conversation[None, :]] = -1
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :NEIGHBOURS]
        for place, near in enumerate(nearest, start):
            near = near[likeness[place - start, near] > 0]
            mine = columns[place]
            share = np.asarray(has[near][:, mine].sum(0)).ravel() / max(len(near), 1)
            kept[rows[place]] = frozenset(vocabulary[t] for t in mine[(share >= KEEP_SHARE) & template[mine]])
    return kept


def _alike(system: Sequence[Set], ranks: dict[str, float]) -> list[int]:
    """Group calls by their system skeletons, roughly; those without one are a group of their own."""
    distinct = sorted(set(system), key=lambda found: tuple(sorted(found)))
    if len(distinct) < 2:
        return [0] * len(system)
    distance = 1 - _smoothed_jaccard(distinct, ranks, SMOOTHING_SYSTEM, True)
    np.fill_diagonal(distance, 0)
    groups = fcluster(linkage(squareform(distance, checks=False), "average"), GROUP_DISTANCE, "distance")
    group = dict(zip(distinct, groups.tolist(), strict=True))
    return [group[found] for found in system]


def _group(
    tokens: Sequence[Tokens], system: Sequence[Set], whole: Sequence[Set], conversations: Sequence[str]
) -> Skeletons:
    """Join equal sets to variants and variants to tasks; a task needs three conversations or twenty calls."""
    ranks = _ranks(tokens)
    keys = [(a, b - a, frozenset(call.keys)) for a, b, call in zip(system, whole, tokens, strict=True)]
    distinct = sorted(set(keys), key=lambda key: tuple(tuple(sorted(part)) for part in key))
    place = {key: number for number, key in enumerate(distinct)}
    fine = np.array([place[key] for key in keys])
    if len(distinct) > 1:
        distance = 1 - _similarity(distinct, ranks)
        np.fill_diagonal(distance, 0)
        tree = linkage(squareform(distance, checks=False), "average")
        variants = fcluster(tree, VARIANT_DISTANCE, "distance")[fine]
        tasks = fcluster(tree, TASK_DISTANCE, "distance")[fine]
    else:
        variants = tasks = np.ones(len(keys), np.int64)
    # To have a prompt that never came back is not to have none.
    unlike = np.array([bool(call.head or call.system) and not found for call, found in zip(tokens, whole, strict=True)])
    variants, tasks = np.where(unlike, 0, variants), np.where(unlike, 0, tasks)

    numbers: dict[int, int] = {}
    for task in np.unique(tasks[tasks > 0]):
        members = np.flatnonzero(tasks == task).tolist()
        if len({conversations[i] for i in members}) >= MIN_CONVERSATIONS or len(members) >= MIN_CALLS:
            numbers[int(task)] = len(numbers)
    assignments = np.array([numbers.get(int(task), -1) for task in tasks], np.int64)
    profiles = [
        _profile(int(assignments[members[0]]), [tokens[i] for i in members], [whole[i] for i in members],
                 [conversations[i] for i in members], ranks)
        for variant in np.unique(variants)
        if assignments[(members := np.flatnonzero(variants == variant).tolist())[0]] >= 0
    ]  # fmt: skip
    return Skeletons(assignments, Profiles(profiles))


def _ranks(tokens: Sequence[Tokens]) -> dict[str, float]:
    """Where each token stands in its zone, as a rule."""
    places: dict[str, list[int]] = defaultdict(list)
    for call in tokens:
        for zone in (call.system, call.user):
            for rank, token in enumerate(zone):
                places[token].append(rank)
    return {token: float(np.median(found)) for token, found in places.items()}


def _weights(tokens: Set, ranks: dict[str, float], rarity: dict[str, float] | None = None) -> dict[str, float]:
    """The tokens of one zone with their weights, in their order in the prompt; heads first.

    Args:
        rarity: token → factor; without it all count as rare.
    """
    ordered = sorted(tokens, key=lambda token: (-1.0 if is_head(token) else ranks.get(token, 0.0), token))
    rarity = rarity or {}
    return {
        token: token_weight(token) * rank_weight(rank) * rarity.get(token, 1.0) for rank, token in enumerate(ordered)
    }


def _rarity(sets: Sequence[Set]) -> dict[str, float]:
    """Token → log(1 + K/k) / log(1 + K) for a token in k of K sets, at least 0.3; heads always count in full.

    A framework's boilerplate is in the prompts of all its agents and tells nothing about which one is speaking.
    """
    seen = Counter(token for found in sets for token in found)
    whole = math.log1p(len(sets))
    return {
        token: 1.0 if is_head(token) else max(MIN_RARITY, math.log1p(len(sets) / count) / whole)
        for token, count in seen.items()
    }


def _similarity(keys: Sequence[tuple[Set, Set, Set]], ranks: dict[str, float]) -> NDArray[np.float64]:
    """(K, K) min(system, user) · keys^0.25, each a smoothed weighted Jaccard: two prompts must agree in every zone.

    0 where smoothing is all that they agree in: nothing in common but that both say little.
    """
    system, user, offered = (
        _smoothed_jaccard([key[zone] for key in keys], ranks, smoothing, zone != 2)
        for zone, smoothing in enumerate((SMOOTHING_SYSTEM, SMOOTHING_USER, SMOOTHING_KEYS))
    )
    return np.minimum(system, user) * offered**KEYS_EXPONENT * _meet(keys)


def _meet(keys: Sequence[tuple[Set, Set, Set]]) -> NDArray[np.bool_]:
    """(K, K) whether two have a token in common, both thin or neither; the tools stand in where there are no tokens."""
    said = [system | user or frozenset([f"{EMPTY}{sorted(offered)}"]) for system, user, offered in keys]
    number = {token: place for place, token in enumerate(sorted({token for found in said for token in found}))}
    columns = [number[token] for found in said for token in found]
    has = csr_matrix((np.ones(len(columns), np.float32), columns, np.cumsum([0, *map(len, said)])))
    thin = np.array([sum(length_weight(token) for token in system | user) < THIN_MASS for system, user, _ in keys])
    met = np.logical_and((has @ has.T).toarray() > 0, thin[:, None] == thin[None, :])
    return np.asarray(met, np.bool_)


def _smoothed_jaccard(
    sets: Sequence[Set], ranks: dict[str, float], smoothing: float, ranked: bool
) -> NDArray[np.float64]:
    """(K, K) (Σ min + s) / (Σ max + s); K equal rows are computed once."""
    distinct = sorted(set(sets), key=lambda found: tuple(sorted(found)))
    place = {found: number for number, found in enumerate(distinct)}
    vocabulary = {token: number for number, token in enumerate(sorted({t for found in distinct for t in found}))}
    rarity = _rarity(distinct)
    rows = np.zeros((len(distinct), max(len(vocabulary), 1)), np.float32)
    for number, found in enumerate(distinct):
        weights = _weights(found, ranks, rarity) if ranked else {token: token_weight(token) for token in found}
        for token, weight in weights.items():
            rows[number, vocabulary[token]] = weight
    mass = rows.sum(1)
    shared = np.zeros((len(distinct), len(distinct)), np.float64)
    for number in range(len(distinct)):
        columns = np.flatnonzero(rows[number])
        shared[number] = np.minimum(rows[number, columns], rows[:, columns]).sum(1)
    result = (shared + smoothing) / (mass[:, None] + mass[None, :] - shared + smoothing)
    number_of = np.array([place[found] for found in sets])
    return np.asarray(result[np.ix_(number_of, number_of)])


def _profile(
    task: int, tokens: Sequence[Tokens], whole: Sequence[Set], conversations: Sequence[str], ranks: dict[str, float]
) -> Profile:
    """What at least 60 % of a variant's conversations have."""
    by_conversation: dict[str, set[str]] = defaultdict(set)
    for found, keys, name in zip(whole, (call.keys for call in tokens), conversations, strict=True):
        by_conversation[name].update(found, keys)
    seen = Counter(token for found in by_conversation.values() for token in found)
    kept = frozenset(token for token, count in seen.items() if count >= PROFILE_SHARE * len(by_conversation))
    zones = [
        frozenset(token for token in kept if token[:2] not in (USER, KEY)),
        frozenset(token for token in kept if token.startswith(USER)),
    ]
    weights = _weights(zones[0], ranks) | _weights(zones[1], ranks)
    weights |= {token: token_weight(token) for token in sorted(kept) if token.startswith(KEY)}
    foreign = [_foreign_mass(call, weights) for call in tokens]
    lines = [token.removeprefix(USER) for token in weights if not token.startswith(KEY)]
    lines = [line.removeprefix("h ").removesuffix(" .") for line in lines if line[0] not in "^$"]
    return Profile(
        task,
        weights,
        float(np.quantile(foreign, FOREIGN_QUANTILE)),
        float(np.quantile([len(call.user) for call in tokens], LENGTH_QUANTILE)),
        lines,
    )


def _foreign_mass(call: Tokens, known: Mapping[str, float]) -> float:
    """The mass of a call's head and system tokens that a profile doesn't have."""
    mass = sum(token_weight(token) * rank_weight(rank) for rank, token in enumerate(call.system) if token not in known)
    return mass + (HEAD_WEIGHT if call.head and known.keys().isdisjoint(head_prefixes(call.head)) else 0.0)

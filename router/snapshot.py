"""The immutable bundle of learned things that the engine serves from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from router.arrays import read_arrays, write_arrays
from router.contract import ContractInvalid, OutputContract
from router.encoder import StaticEncoder
from router.errors import SnapshotInvalid
from router.payload import Bounds, PayloadModel, head_dtypes, head_from
from router.recognition import Profiles

FORMAT = 2
_MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Cluster:
    """A discovered task.

    Attributes:
        cluster_id: stays the same over snapshots, as long as it is the same task.
        label: for people, at most 60 characters, distinct within a snapshot.
        contract: the form of its answers.
        task: number of its skeleton in the profiles; several clusters may share one.
        skeleton: the recurring lines of its largest variant, for people.
        thin: the skeleton says too little by itself; the payload decides.
        calls, conversations: how many it was learned from.
        share: of all calls that were learned from, in [0, 1].
        variants: how many variants its template has.
        examples: call ids, hexadecimal, of distinct conversations.
        models: names of the LLMs that answered it, most frequent first.
    """

    cluster_id: str
    label: str
    contract: OutputContract
    task: int
    skeleton: str
    thin: bool
    calls: int
    conversations: int
    share: float
    variants: int = 1
    examples: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """What became of a task at a re-learning.

    Attributes:
        cluster_id: of the new snapshot; None when the task has gone.
        before: ids of the tasks whose calls it got a fair part of: none for a new task, several for a merger. One task
            that shows up in several lineages was split.
    """

    cluster_id: str | None
    before: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """Everything that was learned. Built by `router.learning.discovery`, dumped to an artifact, loaded by every worker.

    Attributes:
        profiles: recognise skeletons.
        clusters: by id.
        tasks: per skeleton, the ids of the clusters on it (one, as a rule).
        payloads: skeleton → its payload level, where there was enough to learn one.
        static: the static encoder, where there is any payload level.
        encoder: name of the transformer encoder that the payload levels were learned with; None without one.
        created_at: UTC.
        calls: how many were learned from, unknown ones included.
        lineage: changes of identity since the snapshot before; tasks that just went on aren't in it.
    """

    profiles: Profiles
    clusters: Mapping[str, Cluster]
    tasks: tuple[tuple[str, ...], ...]
    created_at: datetime
    calls: int
    payloads: Mapping[int, PayloadModel] = field(default_factory=dict)
    static: StaticEncoder | None = None
    encoder: str | None = None
    lineage: tuple[Lineage, ...] = ()

    @cached_property
    def snapshot_id(self) -> str:
        """A digest of the content: two snapshots of the same id are the same."""
        return _digest(self.dump())

    @cached_property
    def task_of(self) -> Mapping[str, int]:
        """Cluster id → number of its skeleton."""
        return {cluster_id: task for task, ids in enumerate(self.tasks) for cluster_id in ids}

    def dump(self) -> dict[str, bytes]:
        """The snapshot as files: `snapshot.json`, `profiles.bin`, and with payload levels three more."""
        arrays: dict[str, NDArray[Any]] = {}
        for task, model in self.payloads.items():
            arrays |= model.arrays(str(task))
        about = {
            "format": FORMAT,
            "created_at": self.created_at.isoformat(),
            "calls": self.calls,
            "encoder": self.encoder,
            "tasks": self.tasks,
            "clusters": [{**asdict(c), "contract": c.contract.to_json()} for c in self.clusters.values()],
            "payloads": {
                str(task): {"clusters": model.clusters, "full": model.full is not None, "bounds": asdict(model.bounds)}
                for task, model in self.payloads.items()
            },
            "lineage": [asdict(each) for each in self.lineage],
        }
        files = {"snapshot.json": orjson.dumps(about), "profiles.bin": self.profiles.dump()}
        if arrays:
            files["payloads.npz"] = write_arrays(**arrays)
        return files | (self.static.dump() if self.static else {})

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> Snapshot:
        """Read what `dump` wrote. Nothing in the files is ever executed.

        Raises:
            SnapshotInvalid: a file is missing, malformed, of another format, or contradicts another.
        """
        about = _read_json(files)
        try:
            profiles = Profiles.load(files["profiles.bin"])
            snapshot = cls(
                profiles=profiles,
                clusters={each["cluster_id"]: _cluster(each) for each in about["clusters"]},
                tasks=tuple(tuple(map(str, each)) for each in about["tasks"]),
                created_at=datetime.fromisoformat(about["created_at"]),
                calls=int(about["calls"]),
                payloads=_payloads(files, about["payloads"]),
                static=StaticEncoder.load(files) if "static.npz" in files else None,
                encoder=about["encoder"],
                lineage=tuple(Lineage(each["cluster_id"], tuple(each["before"])) for each in about["lineage"]),
            )
        except SnapshotInvalid:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SnapshotInvalid(f"snapshot.json or profiles.bin: {error!r}") from error
        snapshot._check()
        snapshot.__dict__["snapshot_id"] = _digest(files)
        return snapshot

    def _check(self) -> None:
        if any(not task or (len(task) > 1 and number not in self.payloads) for number, task in enumerate(self.tasks)):
            raise SnapshotInvalid("snapshot.json: a skeleton without a task, or several tasks without a payload level")
        on_tasks = [cluster_id for task in self.tasks for cluster_id in task]
        if sorted(on_tasks) != sorted(self.clusters):
            raise SnapshotInvalid("snapshot.json: clusters and tasks name different ids")
        for task, model in self.payloads.items():
            if not 0 <= task < len(self.tasks) or set(model.clusters) != set(self.tasks[task]):
                raise SnapshotInvalid(f"snapshot.json: the payload level {task} is of no task")
            if self.static is None:
                raise SnapshotInvalid("static.npz: missing, and there are payload levels")
            if (model.full is not None) != (self.encoder is not None):
                raise SnapshotInvalid("snapshot.json: payload levels and encoder contradict each other")


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return f"snapshot-{digest.hexdigest()[:16]}"


def _read_json(files: Mapping[str, bytes]) -> dict[str, Any]:
    data = files.get("snapshot.json")
    if data is None or "profiles.bin" not in files:
        raise SnapshotInvalid(f"{'snapshot.json' if data is None else 'profiles.bin'}: missing")
    if len(data) > _MAX_JSON_BYTES:
        raise SnapshotInvalid(f"snapshot.json: {len(data)} bytes, more than {_MAX_JSON_BYTES}")
    try:
        about = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise SnapshotInvalid(f"snapshot.json: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise SnapshotInvalid(f"snapshot.json: not of format {FORMAT}; run `understudy learn` with this version")
    return about


def _cluster(value: Mapping[str, Any]) -> Cluster:
    try:
        contract = OutputContract.from_json(value["contract"])
    except ContractInvalid as error:
        raise SnapshotInvalid(f"snapshot.json: {value.get('cluster_id')}: {error}") from error
    sequences: dict[str, Sequence[str]] = {name: tuple(value[name]) for name in ("examples", "models")}
    cluster = Cluster(**{**value, "contract": contract, **sequences})
    if not all(isinstance(text, str) for text in (cluster.cluster_id, cluster.label, cluster.skeleton)):
        raise SnapshotInvalid("snapshot.json: a cluster's id, label or skeleton is no text")
    return cluster


def _payloads(files: Mapping[str, bytes], about: Mapping[str, Any]) -> dict[int, PayloadModel]:
    expected: dict[str, Any] = {}
    for task, each in about.items():
        expected |= head_dtypes(f"{task}.static") | (head_dtypes(f"{task}.full") if each["full"] else {})
    if not expected:
        return {}
    arrays = read_arrays(files, "payloads.npz", expected)
    models: dict[int, PayloadModel] = {}
    for task, each in about.items():
        clusters = tuple(map(str, each["clusters"]))
        full = head_from(arrays, f"{task}.full") if each["full"] else None
        model = PayloadModel(clusters, head_from(arrays, f"{task}.static"), full, Bounds(**each["bounds"]))
        bounds = np.array(list(asdict(model.bounds).values()), dtype=float)
        if any(len(head.bias) != len(clusters) for head in (model.static, full) if head) or np.isnan(bounds).any():
            raise SnapshotInvalid(f"payloads.npz: the heads of {task} are not for {len(clusters)} clusters")
        if not -1 <= model.bounds.empty < len(clusters):
            raise SnapshotInvalid(f"snapshot.json: {task}: no task number {model.bounds.empty}")
        models[int(task)] = model
    return models

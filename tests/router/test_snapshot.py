"""Snapshots: what goes in comes out, and damaged or hostile files are refused with a reason."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import numpy as np
import orjson
import pytest

from router.encoder import TransformerEncoder
from router.errors import SnapshotInvalid
from router.snapshot import Snapshot

Files = dict[str, bytes]


def test_comes_back_as_it_was(snapshot_with_payloads: Snapshot, encoder: TransformerEncoder) -> None:
    files = snapshot_with_payloads.dump()
    loaded = Snapshot.load(files)
    assert set(files) == {"snapshot.json", "profiles.bin", "payloads.npz", "static.npz", "tokenizer.json"}
    assert loaded.snapshot_id == snapshot_with_payloads.snapshot_id
    assert loaded.clusters == snapshot_with_payloads.clusters
    assert loaded.tasks == snapshot_with_payloads.tasks
    assert loaded.encoder == encoder.name
    assert loaded.created_at == snapshot_with_payloads.created_at
    assert loaded.dump()["snapshot.json"] == files["snapshot.json"]


def test_without_payload_levels_it_is_two_small_files(snapshot: Snapshot) -> None:
    files = snapshot.dump()
    assert set(files) == {"snapshot.json", "profiles.bin"}
    assert sum(map(len, files.values())) < 20_000


def test_the_id_tells_contents_apart(snapshot: Snapshot, snapshot_with_payloads: Snapshot) -> None:
    assert snapshot.snapshot_id != snapshot_with_payloads.snapshot_id
    assert snapshot.snapshot_id == Snapshot.load(snapshot.dump()).snapshot_id


def _edited(change: Callable[[dict[str, object]], object]) -> Callable[[Files], Files]:
    def edit(files: Files) -> Files:
        about = orjson.loads(files["snapshot.json"])
        change(about)
        return {**files, "snapshot.json": orjson.dumps(about)}

    return edit


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A file that says in its directory that it unpacks to 2 GiB."""
    packed = bytearray(_npz(vectors=np.zeros(1, np.float16)))
    size_at = packed.index(b"PK\x01\x02") + 24
    packed[size_at : size_at + 4] = (2**31 - 1).to_bytes(4, "little")
    return bytes(packed)


class _Executes:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: {}, "snapshot.json: missing"),
        (lambda f: {"snapshot.json": f["snapshot.json"]}, "profiles.bin: missing"),
        (lambda f: {**f, "snapshot.json": b"{"}, "snapshot.json"),
        (lambda f: {**f, "snapshot.json": b"[]"}, "format"),
        (_edited(lambda a: a.update(format=99)), "format"),
        (_edited(lambda a: a.pop("clusters")), "clusters"),
        (_edited(lambda a: a.update(clusters=[{}])), "snapshot.json"),
        (_edited(lambda a: a.update(created_at="yesterday")), "snapshot.json"),
        (_edited(lambda a: a.update(tasks=[["c-unknown"]])), "different ids"),
        (_edited(lambda a: a.update(tasks=[[], []])), "skeleton without a task"),
        (_edited(lambda a: a.update(encoder=None)), "contradict"),
        (_edited(lambda a: a["clusters"][0]["contract"].update(kind="poem")), "not a contract"),
        (_edited(lambda a: a["payloads"]["0"]["bounds"].update(empty=7)), "no task number 7"),
        (_edited(lambda a: a["payloads"]["0"]["clusters"].append("c-more")), "c-more|not for 2 clusters"),
        (lambda f: {**f, "profiles.bin": b"\xc1"}, "profiles.bin"),
        (lambda f: {**f, "profiles.bin": pickle.dumps(_Executes())}, "profiles.bin"),
        (lambda f: {**f, "payloads.npz": f["payloads.npz"][:-100]}, "payloads.npz"),
        (lambda f: {n: d for n, d in f.items() if n != "payloads.npz"}, "payloads.npz: missing"),
        (lambda f: {n: d for n, d in f.items() if n != "static.npz"}, "static.npz: missing"),
        (lambda f: {n: d for n, d in f.items() if n != "tokenizer.json"}, "tokenizer.json: missing"),
        (lambda f: {**f, "tokenizer.json": b'{"model": 1}'}, "tokenizer.json"),
        (lambda f: {**f, "static.npz": _npz(vectors=np.array([_Executes()], object), name=np.zeros(1, np.uint8))},
         "static.npz"),
        (lambda f: {**f, "static.npz": _npz(vectors=np.zeros((5, 2), np.float16), name=np.zeros(1, np.uint8))},
         "do not cover"),
        (lambda f: {**f, "static.npz": _npz(vectors=np.zeros((5, 2)), name=np.zeros(1, np.uint8))}, "float64"),
        (lambda f: {**f, "static.npz": _bomb()}, "more than"),
    ],
)  # fmt: skip
def test_refuses_damaged_and_hostile_files(
    snapshot_with_payloads: Snapshot, damage: Callable[[Files], Files], says: str
) -> None:
    with pytest.raises(SnapshotInvalid, match=says):
        Snapshot.load(damage(snapshot_with_payloads.dump()))


def test_refuses_numbers_that_are_not_finite(snapshot_with_payloads: Snapshot) -> None:
    files = snapshot_with_payloads.dump()
    with np.load(io.BytesIO(files["payloads.npz"])) as archive:
        arrays = dict(archive)
    arrays["0.full.weights"][0, 0] = np.nan
    with pytest.raises(SnapshotInvalid, match="finite"):
        Snapshot.load({**files, "payloads.npz": _npz(**arrays)})

"""An adapter that was trained here outlives the directory that its server reads, and is served as trained or not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.errors import Conflict
from proxy.settings import Settings
from proxy.slm.kept_adapters import restore_adapter
from storage.cipher import Cipher
from tests.proxy.slm.kept import Kept, keep_one


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return keep_one(Settings(data_dir=tmp_path / "data"), Cipher(bytes(32)))


def rest(kept: Kept) -> list[str]:
    """What else lies beside the adapter."""
    return [path.name for path in kept.place.parent.iterdir() if path != kept.place]


def test_a_copy_that_is_whole_is_left_as_it_is(kept: Kept) -> None:
    (kept.place / "note").touch()
    kept.restore()
    assert kept.is_whole()
    assert (kept.place / "note").exists()


@pytest.mark.parametrize("damage", ["gone", "volume-gone", "changed", "file-gone", "half-written", "a-file"])
def test_what_is_gone_or_damaged_is_restored(kept: Kept, damage: str) -> None:
    kept.damage(damage)
    assert not kept.is_whole()
    kept.restore()
    assert kept.is_whole()
    assert rest(kept) == []
    modes = {path.stat().st_mode for path in (kept.place, kept.place.parent)}
    assert len(modes) == 1, "the server may run as another user"


def test_many_that_restore_it_at_once_all_find_it_whole(kept: Kept) -> None:
    kept.damage("changed")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: kept.restore(), range(24)))
    assert kept.is_whole()
    assert rest(kept) == []


def test_an_artifact_that_is_corrupt_restores_nothing(kept: Kept) -> None:
    sealed = kept.artifact / "adapter_model.safetensors"
    sealed.write_bytes(sealed.read_bytes()[:-1])
    kept.restore()
    kept.damage("changed")
    before = (kept.place / "adapter_model.safetensors").read_bytes()
    with pytest.raises(Conflict, match=r"damaged, and can't be restored: adapter-.*adapter_model\.safetensors"):
        kept.restore()
    assert (kept.place / "adapter_model.safetensors").read_bytes() == before
    (kept.artifact / "manifest.json").unlink()
    with pytest.raises(Conflict, match=r"nothing says whether the adapter .* is whole: adapter-"):
        kept.restore()


def test_a_directory_that_can_not_be_written_is_said(kept: Kept) -> None:
    kept.damage("volume-gone")
    kept.place.parent.write_bytes(b"")
    with pytest.raises(Conflict, match=r"can't be restored: .*adapters"):
        kept.restore()


def test_another_model_of_the_same_name_is_not_written_over(kept: Kept) -> None:
    """Trained just now, and not yet registered."""
    (kept.place / "model-card.json").write_text(json.dumps({"weights": "of-another"}))
    with pytest.raises(Conflict, match="holds another model than 'triage' was registered with"):
        kept.restore()
    assert "of-another" in (kept.place / "model-card.json").read_text()


def test_what_was_not_trained_here_is_left_to_its_server(kept: Kept) -> None:
    elsewhere = str(kept.place.parent.parent / "elsewhere")
    kept.damage("gone")
    for known, adapter in (
        (None, str(kept.place)),
        (kept.row(), None),
        (kept.row(), elsewhere),
        (kept.row(adapter=elsewhere), elsewhere),
        (kept.row(weights=None), str(kept.place)),
        (kept.row(weights="a" * 400), str(kept.place)),
        (kept.row(weights="../artifacts"), str(kept.place)),
    ):
        restore_adapter(kept.settings, kept.artifacts, known, adapter)
    assert not kept.place.exists()
    assert not Path(elsewhere).exists()

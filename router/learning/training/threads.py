"""Torch on one core, for models so small that a second one slows them down."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

#: A second core gains little on a model of a million parameters; beside other work, two took six times as long.
ONE_THREAD_PARAMETERS = 10_000_000


@contextlib.contextmanager
def threads_for(parameters: int) -> Iterator[None]:
    """One thread until the end of the block, where the model is small."""
    import torch

    threads = torch.get_num_threads()
    if parameters < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

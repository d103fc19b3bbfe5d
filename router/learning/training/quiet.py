"""The libraries' own progress bars and warnings, kept from whoever watches a training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Transformers 5.23 about its own and its neighbours' use of names that version 6 drops.
_RENAMED = r".*`(is_)?gradient_checkpointing(_\w+)?` is deprecated"


@contextmanager
def quiet() -> Iterator[None]:
    """Until the end of the block, nothing but errors is told."""
    import datasets
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    more_bars = not datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _RENAMED, FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if more_bars:
            datasets.enable_progress_bars()
        if bars:
            logging.enable_progress_bar()

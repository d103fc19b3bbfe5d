"""How the product's own processes log: one line per event on standard error, JSON unless a person is watching."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import structlog


def configure_logs() -> None:
    """Set up this process. Other libraries' warnings come through the same stream."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


class OncePerMinute:
    """Lets the first event of a kind through and holds its repetitions back for a minute: an outage is one story."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval_seconds: float = 60.0) -> None:
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._last: dict[str, float] = {}

    def __call__(self, kind: str) -> bool:
        """Whether an event of this (constant) kind may be logged now."""
        now = self._clock()
        if now - self._last.get(kind, -self._interval_seconds) < self._interval_seconds:
            return False
        self._last[kind] = now
        return True

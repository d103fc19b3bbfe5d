"""Which SLM servers are worth trying just now. Sans-I/O: told what happened and what time it is."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

OPEN_AFTER_FAILURES = 5
FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 30.0


class BreakerState(StrEnum):
    """`closed` lets every call through, `open` none, `half_open` one, whose outcome decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One server's circuit breaker: opens after failures in a row, then tries one call at a time, ever more rarely."""

    def __init__(self, clock: Callable[[], float], on_change: Callable[[bool], None] = lambda up: None) -> None:
        """
        Args:
            clock: monotonic seconds.
            on_change: told whether the server counts as up, whenever that changes; nothing is known at first.
        """
        self._clock = clock
        self._on_change = on_change
        self._failures = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._retry_at = 0.0
        self._is_up: bool | None = None
        self.state = BreakerState.CLOSED

    def admits(self) -> bool:
        """Whether a call may try the server now. Who is admitted must report its outcome."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and self._clock() >= self._retry_at:
            self.state = BreakerState.HALF_OPEN
            return True
        return False

    def succeeded(self) -> None:
        """The server answered (a client's own mistake answered with 400 counts too)."""
        self._failures = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self.state = BreakerState.CLOSED
        self._tell(True)

    def failed(self) -> None:
        """The server refused, broke off, was too slow or failed."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self._pause_seconds = min(self._pause_seconds * 2, MAX_PAUSE_SECONDS)
            self._open()
        elif self.state is BreakerState.CLOSED and self._failures >= OPEN_AFTER_FAILURES:
            self._open()
            self._tell(False)

    def abandoned(self) -> None:
        """The call ended before the server could show anything (the client left): the next one may try."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN
            self._retry_at = self._clock()

    def _tell(self, is_up: bool) -> None:
        if self._is_up is not is_up:
            self._is_up = is_up
            self._on_change(is_up)

    def _open(self) -> None:
        self.state = BreakerState.OPEN
        self._retry_at = self._clock() + self._pause_seconds

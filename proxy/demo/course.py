"""How far the demo has come: a line for each thing done, and below it what is being done and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

Progress = Callable[[int, int], None]  # steps done, steps in all
SLOWEST, FASTEST = 10.0, 0.2  # how far from the expected pace a machine may be believed to be
TRUST_SECONDS = 40.0  # of work at the expected pace that is thought to be done before: a short stage says little


class Course:
    """The stages of a long run, each with the seconds that it takes on two cores.

    The time left is that of the stages to come, at the pace of those that are done, as far as they say much; within a
    stage that counts its steps, by its steps.
    """

    def __init__(
        self, console: Console, stages: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            stages: name → expected seconds, in order.
            clock: monotonic seconds.
        """
        self._console = console
        self._stages = dict(stages)
        self._clock = clock
        self._begun = clock()
        self._expected_done, self._took_done = 0.0, 0.0
        self._stage: str | None = None
        self._stage_begun, self._share = 0.0, 0.0

    def say(self, text: str) -> None:
        """Print a line, with the seconds since the beginning."""
        self._console.print(f"{self._clock() - self._begun:4.0f} s  {text}", markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Do a stage inside the block, which may tell its steps.

        A terminal shows what is being done and the time left; a file gets a line where a stage begins that takes long.
        """
        self._stage, self._stage_begun, self._share = name, self._clock(), 0.0
        if not self._console.is_terminal and self._stages[name] >= 10:
            self.say(f"{name} … ({self._left()})")
        with Live(_Doing(self), console=self._console, transient=True, refresh_per_second=8):
            yield self._progress
        self._expected_done += self._stages.pop(name)
        self._took_done += self._clock() - self._stage_begun
        self._stage = None

    def seconds_left(self) -> float:
        """Seconds until the last stage is expected to be done."""
        pace = (self._took_done + TRUST_SECONDS) / (self._expected_done + TRUST_SECONDS)
        pace = min(max(pace, FASTEST), SLOWEST)
        left = sum(seconds for name, seconds in self._stages.items() if name != self._stage) * pace
        if self._stage is not None:
            took = self._clock() - self._stage_begun
            expected = took / self._share if self._share > 0 else self._stages[self._stage] * pace
            left += max(expected - took, 0.0)
        return left

    def _progress(self, done: int, of: int) -> None:
        self._share = done / of

    def _left(self) -> str:
        seconds = round(self.seconds_left() / 5) * 5
        return f"about {seconds // 60}:{seconds % 60:02d} left" if seconds else "nearly done"

    def __str__(self) -> str:
        steps = f" {self._share:.0%}" if self._share else ""
        return f"{self._stage} …{steps} ({self._left()})"


class _Doing:
    """What is being done, as it is at the moment of drawing."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._spinner = Spinner("dots")

    def __rich__(self) -> Spinner:
        self._spinner.update(text=Text(str(self._course)))
        return self._spinner

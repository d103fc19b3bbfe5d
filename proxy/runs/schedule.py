"""When runs begin by themselves. Decisions only: what is known goes in, what is to be done comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

#: The log has to have grown by this share since the snapshot in force, or by so many calls: learning again what was
#: learned already costs a minute for every 100,000 calls, and finds the same.
GROWTH = 0.2
GROWTH_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Learnable:
    """What is known of the log.

    Attributes:
        new_calls: in it since the snapshot in force was learned.
        learned_calls: that this was learned from; None without one.
        since: when it was put in force; without one, when the first call came. None while there is neither.
    """

    new_calls: int
    learned_calls: int | None
    since: datetime | None


def is_learning_due(known: Learnable, every_hours: float, now: datetime) -> bool:
    """Whether to learn now.

    The first snapshot doesn't wait for its hour where there is enough to learn from.

    Args:
        every_hours: the least time between two snapshots; 0: never.
        now: aware.
    """
    if not every_hours or known.since is None or known.new_calls <= 0:
        return False
    waited = now - known.since >= timedelta(hours=every_hours)
    if known.learned_calls is None:
        return waited or known.new_calls >= GROWTH_CALLS
    return waited and known.new_calls >= min(GROWTH_CALLS, GROWTH * known.learned_calls)


#: Conversations that a task needs before it is worth training for: a quarter of them certify, and 59 without a failure
#: are the fewest that prove 5 % at 95 %.
TRAINABLE_CONVERSATIONS = 300


@dataclass(frozen=True, slots=True)
class LastTry:
    """The last time that somebody trained for a task, or put an SLM to the proof on it.

    Attributes:
        had: about how many conversations it learned from that are still worth it: none once the LLM has changed.
        came: about how many have come since, and since the LLM changed.
        llm_changed: whether it has, since.
    """

    had: int
    came: int
    llm_changed: bool

    @property
    def is_outdated(self) -> bool:
        """Whether another try is another matter: of an LLM that changed, or from twice as much.

        What failed once by itself, fails again; and whoever tries often, proves less each time.
        """
        return self.came >= max(TRAINABLE_CONVERSATIONS, self.had)


@dataclass(frozen=True, slots=True)
class Trainable:
    """What is known of a task.

    Attributes:
        conversations: that it was learned from.
        calls_per_month: of the task.
        has_slm: one is in force, or could be by what is proved of it today. Not one that is back in the shadow since
            it lost its proof: it may stay there for ever.
        last_try: None where nobody tried.
        pays: whether today's volume is above break-even; None where nobody knows the LLM's price.
        can_be_proved: its answers have a closed form, or there is a judge of free text.
    """

    cluster_id: str
    conversations: int
    calls_per_month: float
    has_slm: bool
    last_try: LastTry | None
    pays: bool | None
    can_be_proved: bool = True

    @property
    def wants_slm(self) -> bool:
        """Whether an SLM is worth training for it: for the first time, or again."""
        tried = self.last_try
        enough = tried.is_outdated if tried else self.conversations >= TRAINABLE_CONVERSATIONS
        return bool(self.pays) and enough and self.can_be_proved and not self.has_slm


def task_to_train(tasks: Sequence[Trainable]) -> Trainable | None:
    """The task that an SLM is to be trained for by itself; the busiest of those that want one."""
    wanting = [task for task in tasks if task.wants_slm]
    return max(wanting, key=lambda task: (task.calls_per_month, task.cluster_id), default=None)

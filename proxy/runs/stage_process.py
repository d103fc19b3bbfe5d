"""One stage of a run, in a process of its own, watched from the learner.

What a stage loads (gigabytes, at times) goes when it ends; and when the kernel kills it for its memory, or a native
library brings it down, that is one stage's clear end and not the learner's.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import structlog

from proxy.errors import UnderstudyError
from proxy.learning.workshop import Workshop
from proxy.logs import configure_logs
from proxy.runs.queue import RunWish
from proxy.settings import Settings
from storage.errors import DatabaseDown, StorageError

LOOK_SECONDS = 0.5
_MAX_MESSAGE_CHARS = 1000

#: What a stage found, as JSON. `in_words` is a sentence for the run's record.
Figures = dict[str, Any]
Work = Callable[[Workshop, RunWish, Mapping[str, Figures]], Figures]

spawn = multiprocessing.get_context("spawn")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a run.

    Attributes:
        name: one word, as the run's record shows it.
        work: a function of a module (its process imports it by name). It gets the workshop, what was asked for, and
            what the stages before it found, by name; done again after it was killed, it has to come to the same end.
    """

    name: str
    work: Work


#: What a run goes through; the same for the same wish.
StagesOf = Callable[[RunWish], Sequence[Stage]]


class StageFailed(Exception):
    """A stage came to an end without a result; the message is one line for whoever asked for the run."""


class StageCancelled(StageFailed):
    """Somebody cancelled the run; the stage's process was killed."""


class DatabaseAway(StageFailed):
    """The database did not answer. Nothing is wrong with the stage: it can be done again."""


def run_in_child(
    stage: Stage,
    settings: Settings,
    wish: RunWish,
    done: Mapping[str, Figures],
    tell: Callable[[str | None], None],
    is_cancelled: Callable[[], bool],
) -> Figures:
    """Do a stage's work in a child process, and wait for it.

    Args:
        done: what the stages before found, by name.
        tell: gets the child's progress lines (`what: how far`); None, about twice a second, while there are none.
        is_cancelled: asked about twice a second; the child is killed when it says so.

    Raises:
        StageFailed: with the reason in one line: the work's own, or how its process ended.
        StageCancelled: `is_cancelled` said so.
        DatabaseAway: the work can be done again.
    """
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(sender, stage, settings, wish, dict(done)), name=stage.name)
    process.start()
    sender.close()
    try:
        while True:
            if is_cancelled():
                raise StageCancelled("cancelled")
            if not receiver.poll(LOOK_SECONDS):
                tell(None)
                continue
            try:
                what, value = receiver.recv()
            except EOFError:
                process.join()
                raise StageFailed(_how_it_ended(stage.name, process.exitcode or 0)) from None
            if what == "progress":
                tell(value)
            elif what == "done":
                figures: Figures = value
                return figures
            else:
                raise (DatabaseAway if what == "database" else StageFailed)(value)
    finally:
        _kill(process.pid)
        process.join()
        process.close()
        receiver.close()


def _how_it_ended(stage: str, exit_status: int) -> str:
    if exit_status >= 0:
        return f"the stage {stage} ended with exit status {exit_status} before it was done"
    number = -exit_status
    with contextlib.suppress(ValueError):
        name = signal.Signals(number).name
        guess = ": out of memory?" if number == signal.SIGKILL else ""
        return f"the stage {stage} was killed (signal {number}, {name}){guess}"
    return f"the stage {stage} was killed (signal {number})"


def _kill(pid: int | None) -> None:
    """End a stage's process and all that it has started; one that has ended is no error."""
    assert pid is not None
    for kill in (os.killpg, os.kill):  # the group is there only once the child has got so far as to make it
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _work(sender: Connection, stage: Stage, settings: Settings, wish: RunWish, done: dict[str, Figures]) -> None:
    """The child, from its first line to its last."""
    os.setpgid(0, 0)  # what it starts dies with it
    threading.Thread(target=_end_with_learner, name="learner-watch", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(19)
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars are for terminals; progress goes through the pipe
    configure_logs()
    logging.captureWarnings(True)
    sys.stdout = sys.stderr  # libraries print; the learner's standard output is not theirs
    sender.send(_outcome(stage, settings, wish, done, lambda line: sender.send(("progress", line))))
    sender.close()


def _outcome(
    stage: Stage, settings: Settings, wish: RunWish, done: dict[str, Figures], tell: Callable[[str], None]
) -> tuple[str, Any]:
    """What is to be told in the end: (`done`, figures), or how it failed and why."""
    try:
        return "done", stage.work(Workshop.open(settings, tell), wish, done)
    except DatabaseDown as error:
        return "database", in_one_line(error)
    except (UnderstudyError, StorageError, OSError) as error:
        return "failed", in_one_line(error)
    except ImportError as error:
        return "failed", f"{error.name} is not installed on the learner's machine; pip install 'understudy[train]'"
    except MemoryError:
        return "failed", f"the stage {stage.name} ran out of memory"
    except Exception as error:
        log.error("stage.failed", stage=stage.name, exc_info=True)
        return "failed", f"{type(error).__name__}: {in_one_line(error)}"


def in_one_line(error: BaseException) -> str:
    """An error as a record can show it."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[:_MAX_MESSAGE_CHARS]}…"


def _end_with_learner() -> None:
    """A stage whose learner was killed is killed too: the next learner does it again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)

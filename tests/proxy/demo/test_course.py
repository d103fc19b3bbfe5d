"""The demo's account of itself: what is done, what is being done, the time left."""

import io

import pytest
from rich.console import Console

from proxy.demo.course import Course


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def course(clock: Clock, output: io.StringIO) -> Course:
    return Course(Console(file=output, width=80), {"boil": 10, "brew": 40, "pour": 5}, clock)


def test_the_time_left_is_what_the_stages_take_at_the_pace_so_far(course: Course, clock: Clock) -> None:
    assert course.seconds_left() == 55
    with course.stage("boil"):
        clock.now += 4
        assert course.seconds_left() == 51
        clock.now += 16
    assert course.seconds_left() == pytest.approx(45 * 1.2)  # a short stage took twice as long: that says a little
    with course.stage("brew"):
        clock.now += 20 + 76  # the two took 116 seconds instead of 50
        assert course.seconds_left() == pytest.approx(5 * 1.2)
    assert course.seconds_left() == pytest.approx(5 * (116 + 40) / (50 + 40))


def test_a_stage_that_counts_its_steps_knows_better(course: Course, clock: Clock) -> None:
    with course.stage("boil"):
        clock.now += 10
    with course.stage("brew") as progress:
        clock.now += 30
        progress(1, 4)
        assert course.seconds_left() == 90 + 5
        progress(4, 4)
        assert course.seconds_left() == 5


def test_a_stage_that_takes_too_long_is_never_less_than_done(course: Course, clock: Clock) -> None:
    with course.stage("boil"):
        clock.now += 1000
        assert course.seconds_left() == 45


def test_a_file_gets_a_line_for_each_long_stage_and_each_thing_done(
    course: Course, clock: Clock, output: io.StringIO
) -> None:
    with course.stage("boil"):
        clock.now += 10
    course.say("boiled [hot]")
    with course.stage("brew"):
        clock.now += 40
    with course.stage("pour"):
        clock.now += 5
    course.say("done")
    assert output.getvalue().splitlines() == [
        "   0 s  boil … (about 0:55 left)",
        "  10 s  boiled [hot]",
        "  10 s  brew … (about 0:45 left)",
        "  55 s  done",
    ]


def test_a_terminal_shows_the_stage_while_it_lasts_and_nothing_of_it_afterwards(clock: Clock) -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, force_terminal=True, legacy_windows=False)
    with Course(console, {"boil": 10}, clock).stage("boil") as progress:
        progress(1, 2)
    assert "boil …" in output.getvalue()
    assert output.getvalue().rstrip().endswith("\x1b[2K")  # the line is erased

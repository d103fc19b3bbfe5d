"""When an SLM server counts as down, and how it comes back."""

from proxy.slm.breaker import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, OPEN_AFTER_FAILURES, Breaker, BreakerState


class Bench:
    """A breaker with a clock that is moved by hand, and what it told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[bool] = []
        self.breaker = Breaker(lambda: self.now, self.told.append)

    def open(self) -> None:
        for _ in range(OPEN_AFTER_FAILURES):
            assert self.breaker.admits()
            self.breaker.failed()
        assert self.breaker.state is BreakerState.OPEN


def test_it_opens_only_after_failures_in_a_row() -> None:
    bench = Bench()
    for _ in range(3):
        for _ in range(OPEN_AFTER_FAILURES - 1):
            bench.breaker.failed()
        bench.breaker.succeeded()
    assert bench.breaker.admits()
    assert bench.told == [True]
    bench.open()
    assert not bench.breaker.admits()
    assert bench.told == [True, False]


def test_a_server_that_never_answered_is_not_up() -> None:
    bench = Bench()
    for _ in range(OPEN_AFTER_FAILURES - 1):
        bench.breaker.failed()
    bench.breaker.abandoned()
    assert bench.told == []


def test_after_its_pause_it_lets_one_call_try_and_closes_when_that_succeeds() -> None:
    bench = Bench()
    bench.open()
    bench.now += FIRST_PAUSE_SECONDS - 0.01
    assert not bench.breaker.admits()
    bench.now += 0.02
    assert [bench.breaker.admits() for _ in range(3)] == [True, False, False]
    bench.breaker.succeeded()
    assert bench.breaker.state is BreakerState.CLOSED
    assert all(bench.breaker.admits() for _ in range(3))
    assert bench.told == [False, True]


def test_a_failed_try_opens_it_again_for_twice_as_long_up_to_a_limit() -> None:
    bench = Bench()
    bench.open()
    pause, pauses = FIRST_PAUSE_SECONDS, []
    bench.now += pause
    for _ in range(7):
        assert bench.breaker.admits()
        bench.breaker.failed()
        failed_at, pause = bench.now, min(pause * 2, MAX_PAUSE_SECONDS)
        bench.now = failed_at + pause - 0.01
        assert not bench.breaker.admits()
        bench.now = failed_at + pause
        pauses.append(pause)
    assert pauses[-1] == MAX_PAUSE_SECONDS
    assert bench.told == [False]


def test_a_success_makes_the_next_pause_short_again() -> None:
    bench = Bench()
    bench.open()
    bench.now += FIRST_PAUSE_SECONDS
    assert bench.breaker.admits()
    bench.breaker.failed()
    bench.now += MAX_PAUSE_SECONDS
    assert bench.breaker.admits()
    bench.breaker.succeeded()
    bench.open()
    bench.now += FIRST_PAUSE_SECONDS
    assert bench.breaker.admits()


def test_a_try_that_its_client_abandoned_is_the_next_ones() -> None:
    bench = Bench()
    bench.open()
    bench.now += FIRST_PAUSE_SECONDS
    assert bench.breaker.admits()
    bench.breaker.abandoned()
    assert bench.breaker.admits()
    assert not bench.breaker.admits()


def test_a_call_that_is_abandoned_while_it_is_closed_changes_nothing() -> None:
    bench = Bench()
    bench.breaker.abandoned()
    assert bench.breaker.state is BreakerState.CLOSED

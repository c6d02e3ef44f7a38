"""The store's clock: the database server's, with its jumps noticed; and countdowns that no jump moves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.store.clock import AHEAD_S, JUMP_S, Countdown, WatchedClock, has_passed
from catchment.store.database import Database

NO_CONNECTION: Any = None


class Host:
    """A host's clocks, as a test moves them."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 50.0

    def pass_by(self, seconds: float, drift: float = 0.0) -> None:
        self.monotonic += seconds
        self.wall += seconds * (1 + drift)

    def clock(self) -> WatchedClock:
        return WatchedClock(lambda _connection: self.wall, monotonic=lambda: self.monotonic)


@pytest.fixture
def host() -> Host:
    return Host()


def test_postgresqls_clock_is_the_stores_whatever_the_hosts_say(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, real = new_database(), time.time
    one, other = Database(url), Database(url)
    try:
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        ahead = one.write(lambda tx: tx.now)
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        behind = other.read(lambda tx: tx.now)
        assert abs(ahead - real()) < 30
        assert abs(behind - ahead) < 30
        assert one.clock.steady_s == math.inf
    finally:
        one.close()
        other.close()


def test_a_transaction_that_asks_for_no_time_costs_none(host: Host, new_database: Callable[[], str]) -> None:
    asked: list[float] = []
    clock = WatchedClock(lambda _connection: asked.append(1.0) or 1.0)
    database = Database(new_database(), clock=clock)
    database.read(lambda tx: None)
    assert asked == []
    database.close()


@pytest.mark.parametrize("jump", [3600.0, -3600.0, JUMP_S + 0.5])
def test_a_jump_is_noticed_and_forgotten_with_time(host: Host, jump: float) -> None:
    clock = host.clock()
    for _ in range(3):
        clock.now(NO_CONNECTION)
        host.pass_by(100, drift=1e-4)
    assert clock.steady_s == math.inf
    host.wall += jump
    host.pass_by(5)
    clock.now(NO_CONNECTION)
    assert clock.steady_s == 0
    host.pass_by(7)
    clock.now(NO_CONNECTION)
    assert clock.steady_s == 7


def test_a_slow_answer_is_no_jump(host: Host) -> None:
    delays = iter([0.0, 5.0, 0.0, 5.0])

    def read(_connection: Any) -> float:
        told = host.wall
        host.pass_by(next(delays))
        return told

    clock = WatchedClock(read, monotonic=lambda: host.monotonic)
    for _ in range(4):
        clock.now(NO_CONNECTION)
    assert clock.steady_s == math.inf


@given(lease_s=st.floats(2, 600), jump=st.floats(-1e5, 1e5), renewed_before=st.floats(0, 1))
def test_a_lease_that_is_renewed_is_live_through_any_jump(
    lease_s: float, jump: float, renewed_before: float
) -> None:
    host = Host()
    clock = host.clock()
    written = clock.now(NO_CONNECTION)
    host.pass_by(renewed_before * lease_s / 4)
    host.wall += jump
    for _ in range(12):  # renewed every quarter of the lease, judged right before
        assert not has_passed(clock, clock.now(NO_CONNECTION), written, lease_s)
        written = clock.now(NO_CONNECTION)
        host.pass_by(lease_s / 4)


@given(lease_s=st.floats(1, 600), jump=st.floats(-1e5, 1e5))
def test_a_lease_that_is_not_renewed_is_over_soon_after_any_jump(lease_s: float, jump: float) -> None:
    host = Host()
    clock = host.clock()
    written = clock.now(NO_CONNECTION)
    host.wall += jump
    clock.now(NO_CONNECTION)
    host.pass_by(lease_s + AHEAD_S + JUMP_S + 0.1)
    # A jump that is too small to be noticed, or to be told from a lease, moves the end by so much.
    host.pass_by(lease_s if abs(jump) <= lease_s + AHEAD_S + JUMP_S else 0)
    host.pass_by(AHEAD_S + JUMP_S if abs(jump) <= lease_s + AHEAD_S + JUMP_S else 0)
    assert has_passed(clock, clock.now(NO_CONNECTION), written, lease_s)


def test_a_countdown_goes_on_through_jumps_and_follows_a_deadline_that_moves(host: Host) -> None:
    clock = host.clock()
    countdown = Countdown(60, monotonic=lambda: host.monotonic)
    deadline = host.wall + 60

    def left_s(of: Countdown, deadline: float) -> float:
        return of.left_s(clock, clock.now(NO_CONNECTION), deadline)

    assert left_s(countdown, deadline) == 60
    for jump in (3600.0, -7200.0):
        host.wall += jump
        host.pass_by(10)
        assert left_s(countdown, deadline) == (50 if jump > 0 else 40)
    # Whoever sees it first after the jump cannot know what is left.
    assert left_s(Countdown(60, monotonic=lambda: host.monotonic), deadline) == 60
    host.pass_by(100)
    assert left_s(countdown, host.wall + 5) == 5
    assert left_s(Countdown(60, monotonic=lambda: host.monotonic), host.wall + 4000) == 60

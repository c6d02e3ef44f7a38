"""A step for many things, some at a time."""

from __future__ import annotations

import threading

import pytest

from catchment.jobs.crew import for_each


@pytest.mark.parametrize("number", [0, 1, 2, 30])
def test_each_thing_has_its_step_once(number: int) -> None:
    done: list[int] = []
    for_each(range(number), done.append, 4)
    assert sorted(done) == list(range(number))


def test_no_more_than_so_many_at_a_time() -> None:
    together, gate, lock = 0, threading.Barrier(3, timeout=10), threading.Lock()
    most = 0

    def step(_: int) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        gate.wait()
        with lock:
            together -= 1

    for_each(range(9), step, 3)
    assert most == 3


def test_an_error_is_raised_when_all_are_done() -> None:
    done: list[int] = []

    def step(thing: int) -> None:
        if thing == 1:
            raise ValueError("one")
        done.append(thing)

    with pytest.raises(ValueError, match="one"):
        for_each(range(5), step, 2)
    assert sorted(done) == [0, 2, 3, 4]

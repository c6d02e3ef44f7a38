"""Admission: bounds hold whatever the threads do."""

from __future__ import annotations

import threading
import time

import pytest

from catchment.errors import DeadlinePassed, NotServing, Overloaded
from catchment.model_server.gate import Gate


def test_more_than_run_and_wait_are_refused_until_one_is_answered() -> None:
    gate = Gate(concurrency=1, queue=2)
    for _ in range(3):
        gate.admit()
    with pytest.raises(Overloaded, match="3 requests") as raised:
        gate.admit()
    assert raised.value.retry_after_s == 1
    gate.release()
    gate.admit()
    assert gate.admitted == 3


def test_a_slot_is_waited_for_until_the_deadline() -> None:
    gate = Gate(concurrency=1, queue=0)
    assert gate.try_enter()
    assert not gate.try_enter()
    with pytest.raises(DeadlinePassed), gate.slot(time.monotonic() + 0.05):
        pass
    gate.leave()
    with gate.slot(time.monotonic()):
        assert gate.running == 1
    assert gate.running == 0


def test_never_more_run_than_may() -> None:
    gate = Gate(concurrency=2, queue=64)
    seen: list[int] = []

    def work() -> None:
        for _ in range(50):
            gate.admit()
            with gate.slot(time.monotonic() + 30):
                seen.append(gate.running)
            gate.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(seen) == 400
    assert max(seen) <= 2
    assert gate.wait_idle(0)
    assert gate.try_enter()
    assert gate.try_enter()


def test_a_closed_gate_admits_nobody_and_tells_when_it_is_idle() -> None:
    gate = Gate(concurrency=1, queue=1)
    gate.admit()
    gate.close()
    with pytest.raises(NotServing):
        gate.admit()
    assert not gate.wait_idle(0.01)
    threading.Timer(0.05, gate.release).start()
    assert gate.wait_idle(30)

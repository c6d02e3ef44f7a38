"""The same step for many things, some at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def for_each(things: Sequence[T], step: Callable[[T], object], at_a_time: int) -> None:
    """Call `step` for each thing, begun in their order; back when all are done.

    The first error is raised then. Unlike those of an executor the threads are daemons: a step that hangs
    does not keep the process from ending.
    """
    if len(things) == 1:
        step(things[0])
        return
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for thing in things:
        waiting.put(thing)
    errors: list[BaseException] = []

    def work() -> None:
        while True:
            try:
                thing = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                step(thing)
            except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
                errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(at_a_time, len(things)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]

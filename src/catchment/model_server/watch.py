"""Ends inferences whose time is over: onnxruntime looks at a flag between two operators."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from onnxruntime import RunOptions

TICK_S = 0.05


class Watch:
    """One thread that looks at all running inferences while there are any."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[float, RunOptions]] = {}
        self._busy = threading.Event()
        threading.Thread(target=self._look, name="deadlines", daemon=True).start()

    @contextmanager
    def until(self, deadline: float) -> Iterator[RunOptions]:
        """Options for one inference, which is told to end at `deadline` (time.monotonic)."""
        options = RunOptions()
        key = id(options)
        self._running[key] = (deadline, options)
        if not self._busy.is_set():
            self._busy.set()
        try:
            yield options
        finally:
            del self._running[key]

    def _look(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(TICK_S)
            self._busy.clear()
            now = time.monotonic()
            # A copy made by one call of C: other threads add and remove meanwhile.
            running = list(self._running.values())
            for deadline, options in running:
                if now > deadline:
                    options.terminate = True
            if running:
                self._busy.set()

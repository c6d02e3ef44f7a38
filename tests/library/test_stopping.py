"""Stopping by signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

PROGRAM = """
import threading
from catchment.stopping import on_stop_signals

over = threading.Event()
on_stop_signals(over.set)
print("ready", flush=True)
while not over.is_set():
    over.wait(0.0001)  # nearly always inside the event's lock
"""


def test_a_burst_of_signals_never_blocks_the_process():
    for _ in range(5):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            if program.poll() is None:
                os.kill(program.pid, number)
        assert program.wait(10) == 0
        program.stdout.close()

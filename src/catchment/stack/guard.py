"""A small process that ends everything when `catchment up` dies without being able to do so itself.

Its standard input is a pipe from `catchment up`. Each process of the stack announces itself there before it
becomes its program; when the pipe closes, the guard sends every process that is left its stop signal, once,
and kills the process groups that are not gone in time. (PR_SET_PDEATHSIG would be sent once for each thread
of the dead parent, nobody would follow up, and what a process started would be left.)

Run as a file, with the standard library alone: `guard.py watch`, `guard.py join FD SIGNAL PROGRAM ARG...`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

GRACE_S = 8.0
_SELF = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]


class Guard:
    """The guard process, as `catchment up` sees it."""

    def __init__(self) -> None:
        # In a session of its own: Ctrl-C and a closed terminal are for `catchment up` to handle.
        self._process = subprocess.Popen([*_SELF, "watch"], stdin=subprocess.PIPE, start_new_session=True)

    @property
    def descriptor(self) -> int:
        """The pipe that a guarded command must inherit."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        return self._process.stdin.fileno()

    def guarded(self, argv: Sequence[str], stop_signal: int) -> list[str]:
        """The command so that it announces itself first; start it in a session of its own."""
        return [*_SELF, "join", str(self.descriptor), str(int(stop_signal)), *argv]

    def forget(self, pid: int) -> None:
        """The process has ended, with its group."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed the guard; there is nobody to tell
            os.write(self.descriptor, f"- {pid} 0\n".encode())

    def close(self) -> None:
        """End the guard; what it still knows it ends first."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        self._process.stdin.close()
        self._process.wait()


def join(arguments: Sequence[str]) -> None:
    """Announce this process, then become the program."""
    descriptor, stop_signal, *program = arguments
    with contextlib.suppress(BrokenPipeError):  # the guard was killed; the work goes on without it
        os.write(int(descriptor), f"+ {os.getpid()} {stop_signal}\n".encode())
    os.close(int(descriptor))
    try:
        os.execvp(program[0], program)  # noqa: S606 - a list, no shell
    except OSError as error:
        raise SystemExit(f"{program[0]}: {error.strerror}") from None


def watch() -> None:
    """Keep the list of processes until the pipe closes, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: dict[int, tuple[int, int]] = {}
    for line in sys.stdin:
        sign, pid, stop_signal = line.split()
        if sign == "+":
            with contextlib.suppress(ProcessLookupError):
                # A descriptor goes on meaning this process, even when its number is given to another.
                known[int(pid)] = (os.pidfd_open(int(pid)), int(stop_signal))
        elif int(pid) in known:
            os.close(known.pop(int(pid))[0])
    end(known)


def end(known: dict[int, tuple[int, int]]) -> None:
    """Stop signals to all, then SIGKILL to the groups of those that are there after the grace time."""
    for descriptor, stop_signal in known.values():
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, stop_signal)
    deadline = time.monotonic() + GRACE_S
    left = {descriptor for descriptor, _ in known.values()}
    while left and (wait_s := deadline - time.monotonic()) > 0:
        left -= _ended(left, wait_s)
    for pid in known:
        # A group lives as long as one member does, and so does its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _ended(descriptors: Iterable[int], wait_s: float) -> set[int]:
    return set(select.select(list(descriptors), [], [], wait_s)[0])


if __name__ == "__main__":
    if sys.argv[1] == "join":
        join(sys.argv[2:])
    else:
        watch()

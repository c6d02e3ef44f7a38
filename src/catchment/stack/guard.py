"""A small process that ends everything when `catchment up` dies without being able to do so itself.

Its standard input is a pipe from `catchment up`. Each process of the stack announces itself there before it
becomes its program; when the pipe closes, the guard sends every process that is left its stop signal, once,
and kills the process groups that are not gone in time. (PR_SET_PDEATHSIG would be sent once for each thread
of the dead parent, nobody would follow up, and what a process started would be left.)

A service that starts long-lived processes itself, which are to outlive it, announces them on a second pipe:
it holds that one open for as long as it lives, and the end of the first must be noticed all the same.

Run as a file, with the standard library alone: `guard.py watch FD`, `guard.py join FD SIGNAL PROGRAM ARG...`.
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
LATE_S = 1.0
_SELF = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]


class Guard:
    """The guard process, as `catchment up` sees it.

    Attributes:
        announcements: the second pipe, for services that start processes themselves.
    """

    def __init__(self) -> None:
        reading, self.announcements = os.pipe()
        # In a session of its own: Ctrl-C and a closed terminal are for `catchment up` to handle.
        self._process = subprocess.Popen(
            [*_SELF, "watch", str(reading)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(reading,),
        )
        os.close(reading)

    @property
    def descriptor(self) -> int:
        """The pipe that a guarded command must inherit."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        return self._process.stdin.fileno()

    def guarded(self, argv: Sequence[str], stop_signal: int) -> list[str]:
        """The command so that it announces itself first; start it in a session of its own."""
        return announced(self.descriptor, argv, stop_signal)

    def forget(self, pid: int) -> None:
        """The process has ended, with its group."""
        forget(self.descriptor, pid)

    def close(self) -> None:
        """End the guard; what it still knows it ends first."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        os.close(self.announcements)
        self._process.stdin.close()
        self._process.wait()


def announced(descriptor: int, argv: Sequence[str], stop_signal: int) -> list[str]:
    """The command so that it announces itself on a guard's pipe first; start it in a session of its own."""
    return [*_SELF, "join", str(descriptor), str(int(stop_signal)), *argv]


def forget(descriptor: int, pid: int) -> None:
    """Tell a guard that a process has ended, with its group."""
    with contextlib.suppress(BrokenPipeError):  # somebody killed the guard; there is nobody to tell
        os.write(descriptor, f"- {pid} 0\n".encode())


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


def watch(announcements: int) -> None:
    """Keep the list of processes until the pipe of `catchment up` closes, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owner = sys.stdin.fileno()
    known = Known({owner: b"", announcements: b""})
    while owner in known.pipes:
        known.read(select.select(list(known.pipes), [], [])[0])
    end(known)


class Known:
    """The processes that have announced themselves and are not known to have ended.

    Attributes:
        pipes: descriptors that are still open at the other end, each with the beginning of a line.
        processes: descriptor and stop signal by number.
    """

    def __init__(self, pipes: dict[int, bytes]) -> None:
        self.pipes = pipes
        self.processes: dict[int, tuple[int, int]] = {}

    def read(self, readable: Iterable[int]) -> list[int]:
        """Take in what the pipes say; numbers of the processes that are new."""
        new = []
        for pipe in set(readable) & self.pipes.keys():
            data = os.read(pipe, 65_536)
            *lines, rest = (self.pipes[pipe] + data).split(b"\n")
            self.pipes[pipe] = rest
            if not data:
                del self.pipes[pipe]
            for line in lines:
                sign, pid, stop_signal = line.split()
                if sign == b"+":
                    new += self._add(int(pid), int(stop_signal))
                elif int(pid) in self.processes:
                    os.close(self.processes.pop(int(pid))[0])
        return new

    def _add(self, pid: int, stop_signal: int) -> list[int]:
        try:
            # A descriptor goes on meaning this process, even when its number is given to another.
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return []
        if pid in self.processes:
            os.close(self.processes[pid][0])
        self.processes[pid] = (descriptor, stop_signal)
        return [pid]

    def stop(self, pids: Iterable[int]) -> None:
        """Send each its stop signal."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(*self.processes[pid])

    def kill(self) -> None:
        """SIGKILL to the groups; one lives as long as one member does, and so does its number."""
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def end(known: Known) -> None:
    """Stop signals to all, then SIGKILL to the groups of those that are there after the grace time.

    What a service starts in its last moment announces itself meanwhile, and is ended like the others.
    """
    known.stop(known.processes)
    _settle(known, GRACE_S)
    known.kill()
    _settle(known, LATE_S)  # whoever held a pipe open is dead now
    known.kill()


def _settle(known: Known, within_s: float) -> None:
    """Wait until all processes have ended and nobody is left who could announce one."""
    deadline = time.monotonic() + within_s
    ended: set[int] = set()
    while (wait_s := deadline - time.monotonic()) > 0:
        left = {known.processes[pid][0]: pid for pid in known.processes.keys() - ended}
        if not left and not known.pipes:
            return
        readable = select.select([*left, *known.pipes], [], [], wait_s)[0]
        ended |= {left[descriptor] for descriptor in readable if descriptor in left}
        known.stop(known.read(readable))


if __name__ == "__main__":
    if sys.argv[1] == "join":
        join(sys.argv[2:])
    else:
        watch(int(sys.argv[2]))

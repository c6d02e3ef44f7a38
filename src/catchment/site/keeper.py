"""The keeper: one small process over the workers of one script, so that nothing of it outlives it.

It is the subreaper of all that the script starts, also of what detaches itself; it holds time and memory
limits; when the agent goes away, however suddenly, the keeper kills the script and ends.
The agent starts it (`python -m catchment.site.keeper`), or a fork server forks it with the framework loaded.

Control is a stream socket: in comes one line, the `Launch`, later perhaps `{"stop": grace_s}`; out go
`{"started": [pids]}` and `{"outcome": {...}}`. End of file from the agent means kill at once.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from catchment.site import limits, processes
from catchment.site.launch_file import Launch, Outcome
from catchment.site.sandbox import CannotIsolateError, Room, enter

Next = Callable[[], object]
"""What a process does after a fork: returned through the stack, so that each copy unwinds its own."""

_WATCH_S = 0.25
_KILL_S = 4.0
_READ = 65536


def keep(control: socket.socket, output: int, run_script: Callable[[Launch], object] | None) -> Next:
    """Start the workers and stay with them; in each worker, return what it has to run.

    Args:
        control: the agent's end is at the other side.
        output: where the workers' stdout and stderr go; closed here once they have it.
        run_script: runs `launch.script` in this process's copy; None: the command is executed.
    """
    launch = Launch.from_json(_line(control))
    os.setsid()
    processes.become_subreaper()
    keeper = os.getpid()
    try:
        room = enter(launch.sandbox) if launch.sandbox else None
    except CannotIsolateError as error:
        control.sendall(json.dumps({"started": []}).encode() + b"\n")
        control.sendall(Outcome("not_isolated", part=error.part, reason=error.reason).to_json())
        return lambda: os._exit(0)
    ranks: dict[int, int] = {}
    for rank in range(len(launch.rank_env)):
        pid = os.fork()
        if pid == 0:
            return _worker(launch, rank, keeper, output, run_script, room)
        ranks[pid] = rank
    os.close(output)
    with _Watch(launch, ranks, control, room.host if room else 0) as watch:
        control.sendall(json.dumps({"started": list(ranks)}).encode() + b"\n")
        outcome = watch.until_the_end()
    with suppress(OSError):  # the agent may be gone, and nobody left to tell
        control.sendall(outcome.to_json())
    return lambda: os._exit(0)


def _line(control: socket.socket) -> bytes:
    """The next line of a socket, and not a byte of what follows."""
    line = b""
    while not line.endswith(b"\n"):
        seen = control.recv(_READ, socket.MSG_PEEK)
        if not seen:
            break
        line += control.recv(seen.find(b"\n") + 1 or len(seen))
    return line


def _worker(
    launch: Launch,
    rank: int,
    keeper: int,
    output: int,
    run_script: Callable[[Launch], object] | None,
    room: Room | None,
) -> Next:
    """Turn this fresh fork into a worker: own session, limits, sandbox, folder, output, environment."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    launch = replace(launch, env={**launch.env, **launch.rank_env[rank]})
    try:
        limits.apply(launch.limits)
        if room is not None:
            room.join()
        processes.die_with_parent(keeper)  # a change of user would undo it
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(launch.cwd)
        if run_script is None:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs should not
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(launch.argv[0], launch.argv, launch.env)  # noqa: S606 - there is no shell on purpose
    except OSError as error:
        os.write(2, f"cannot start {launch.argv[0]}: {error}\n".encode())
        return lambda: os._exit(127)
    runner = run_script
    return lambda: runner(launch)


class _Watch:
    """Waits for the workers' end, the agent's word, the clock and the memory, whichever comes first."""

    def __init__(self, launch: Launch, ranks: dict[int, int], control: socket.socket, host: int) -> None:
        self.launch = launch
        self.host = host
        self.ranks = ranks
        self.control = control
        self.running = dict(ranks)
        self.codes: dict[int, int] = {}
        self.started = time.monotonic()
        self.peak = 0
        self.grace_s = launch.grace_s
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> _Watch:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self.control.setblocking(False)
        self.selector.register(self._read, selectors.EVENT_READ)
        self.selector.register(self.control, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self.selector.close()
        self.control.setblocking(True)

    def until_the_end(self) -> Outcome:
        """Wait, kill whatever is left, and tell how it ended."""
        outcome = self._wait()
        self._kill(gently=outcome.ending != "exited" or bool(self.running))
        return replace(
            outcome,
            seconds=time.monotonic() - self.started,
            peak_mb=self.peak // limits.MB,
            codes={str(rank): code for rank, code in sorted(self.codes.items())},
        )

    def _wait(self) -> Outcome:
        deadline = self.started + self.launch.timeout_s
        look = self.started + _WATCH_S
        while True:
            self._reap()
            failed = next(((rank, code) for rank, code in self.codes.items() if code), None)
            if failed:
                return Outcome("exited", code=failed[1], rank=failed[0])
            if not self.running:
                return Outcome("exited")
            now = time.monotonic()
            if now >= deadline:
                return Outcome("timed_out")
            if now >= look:
                excess = self._excess()
                if excess:
                    return excess
                look = time.monotonic() + _WATCH_S
            if self._told_to_stop(min(deadline, look) - time.monotonic()):
                return Outcome("stopped")

    def _told_to_stop(self, wait_s: float) -> bool:
        """Sleep until something happens; whether the agent said stop, or is gone."""
        for key, _ in self.selector.select(max(0.0, wait_s)):
            if key.fileobj is not self.control:
                if signal.SIGTERM in os.read(self._read, 4096):
                    return True
                continue
            try:
                line = self.control.recv(4096)
            except OSError:
                line = b""
            self.selector.unregister(self.control)
            self.grace_s = float(json.loads(line)["stop"]) if line else 0.0
            return True
        return False

    def _reap(self) -> bool:
        """Wait for what has ended; whether anything is left below this process, a subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self.host = 0 if pid == self.host else self.host
            rank = self.running.pop(pid, None)
            if rank is not None:
                self.codes[rank] = os.waitstatus_to_exitcode(status)

    def _excess(self) -> Outcome | None:
        """What the workers use too much of, if anything."""
        allowed = self.launch.limits.memory_mb * limits.MB
        groups, orphans = processes.trees(self.running, os.getpid())
        orphans = [pid for pid in orphans if pid != self.host]
        for pid, members in groups.items():
            # Orphans belong to somebody, nobody knows to whom; they are few, and counted with the first.
            tree = [*members, *orphans] if self.ranks[pid] == 0 else members
            if len(tree) > limits.MAX_PROCESSES:
                return Outcome("processes", rank=self.ranks[pid])
            used = processes.resident_bytes(tree)
            if used > allowed:
                used = processes.proportional_bytes(tree)
            self.peak = max(self.peak, used)
            if used > allowed:
                return Outcome("memory", rank=self.ranks[pid], used_mb=-(-used // limits.MB))
        return None

    def _kill(self, *, gently: bool) -> None:
        """End every process below this one: asked first, with time to obey, then killed."""
        if gently and self.grace_s > 0:
            for pid in self.ranks:
                processes.signal_group(pid, signal.SIGTERM)
            self._reap_until(lambda: not self.running, self.grace_s)
        if self.host:  # with number 1 of a process tree all others in it end
            processes.signal_all([self.host], signal.SIGKILL)
            self._reap_until(lambda: not self.host, _KILL_S)
        self._reap_until(self._none_left, _KILL_S)

    def _none_left(self) -> bool:
        if not self._reap():
            return True  # the usual end; looking at every process of the machine takes milliseconds
        alive = processes.descendants(os.getpid())
        processes.signal_all(alive, signal.SIGSTOP)  # what is stopped starts no more
        processes.signal_all(alive, signal.SIGKILL)
        return not alive

    def _reap_until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            for key, _ in self.selector.select(0.05):
                if key.fileobj is self.control:
                    self.selector.unregister(self.control)
                    deadline = min(deadline, time.monotonic() + 1.0)
                else:
                    os.read(self._read, 4096)
            self._reap()


def main() -> None:
    """Entry of a keeper that the agent started: its two descriptors are the arguments."""
    control = socket.socket(fileno=int(sys.argv[1]))
    keep(control, int(sys.argv[2]), None)()


if __name__ == "__main__":
    main()

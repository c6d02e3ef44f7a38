"""One process of the stack: started, watched, started again when it dies, stopped with its group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from catchment.errors import SetupError
from catchment.stack.guard import Guard

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A process that lived for so long is started again without delay; a shorter life doubles the pause."""
PROBE_PAUSE_S = 0.1
TAIL_LINES = 15

Probe = Callable[[], bool]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """What to run and how to know that it works.

    Attributes:
        ready: called in a thread until it is true; None: ready once started.
        stop_signal: what makes it stop by itself; sent by the guard, too, when `catchment up` is killed.
        stop_timeout_s: how long it may take to stop before it is killed.
        descriptors: open files that it inherits.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    ready: Probe | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 3.0
    descriptors: tuple[int, ...] = ()


class RunningService:
    """A service under watch."""

    def __init__(self, service: Service, guard: Guard, say: Say) -> None:
        self.service = service
        self._guard = guard
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._hurry = False

    @property
    def pid(self) -> int | None:
        """Process id of the running process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, *, deadline_s: float) -> None:
        """Start it and wait until it is ready; from then on it is started again whenever it dies.

        Raises:
            SetupError: it died or was not ready in time; holds the end of its log.
        """
        rotate(self.service.log)
        process = await self._spawn()
        await self._wait_ready(process, time.monotonic() + deadline_s)
        self._keeper = asyncio.create_task(self._keep(process))

    async def stop(self) -> None:
        """Stop it with all that it started: its signal first, SIGKILL to the group when time is up."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if self._hurry else self.service.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.service.stop_timeout_s)
            except TimeoutError:
                self._say(
                    f"{self.service.name} does not stop within {self.service.stop_timeout_s:g} s; killed"
                )
        await self._sweep(process)

    def hurry(self) -> None:
        """Kill instead of waiting for a graceful stop."""
        self._hurry = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.service.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._guard.guarded(self.service.argv, self.service.stop_signal),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.service.folder,
                env=dict(self.service.environment),
                start_new_session=True,
                pass_fds=(self._guard.descriptor, *self.service.descriptors),
            )
        return self._process

    async def _wait_ready(self, process: asyncio.subprocess.Process, deadline: float) -> None:
        ready = self.service.ready
        while ready is not None and not await asyncio.to_thread(ready):
            if await _ended_within(process, PROBE_PAUSE_S):
                raise self._failed(_how_it_ended(process.returncode))
            if time.monotonic() > deadline:
                raise self._failed("is not ready in time")
        if process.returncode is not None:
            raise self._failed(_how_it_ended(process.returncode))

    def _failed(self, what: str) -> SetupError:
        return SetupError(
            f"{self.service.name} {what}; the end of {self.service.log}:\n{tail(self.service.log)}"
        )

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            born = time.monotonic()
            await process.wait()
            if self._stopping:
                return
            await self._sweep(process)
            if time.monotonic() - born >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            self._say(
                f"{self.service.name} {_how_it_ended(process.returncode)}; "
                f"started again in {pause_s:g} s (log: {self.service.log})"
            )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            process = await self._spawn()

    async def _sweep(self, process: asyncio.subprocess.Process) -> None:
        """What a process left in its group has no parent any more that could stop it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        self._guard.forget(process.pid)


async def _ended_within(process: asyncio.subprocess.Process, seconds: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return False
    return True


def rotate(log: Path) -> None:
    """Keep one older generation of a log; the new one begins empty."""
    if log.exists() and log.stat().st_size:
        log.replace(log.with_suffix(log.suffix + ".1"))


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
            last = file.read().decode(errors="replace").rstrip().splitlines()[-lines:]
    except FileNotFoundError:
        last = []
    return "\n".join(f"    {line}" for line in last) or "    (empty)"


def _how_it_ended(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"

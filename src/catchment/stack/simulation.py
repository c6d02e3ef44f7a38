"""`catchment simulate`: a database and a Prefect server of its own, and one flow until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from catchment.stack import environment
from catchment.stack.home import locked, make_home
from catchment.stack.options import StackOptions
from catchment.stack.ports import claim_port
from catchment.stack.project import find_project
from catchment.stack.service import Say
from catchment.stack.services import prefect_service
from catchment.stack.up import Stack

STOP_S = 10.0


def run_simulation(options: StackOptions, arguments: Sequence[str], *, say: Say) -> int:
    """Start what a simulation needs, run it in the foreground, stop everything; its exit code.

    Args:
        options: home and databases; there are no sites and no API.
        arguments: of `python -m flows.simulate_job`.
        say: takes lines for the person at the terminal.

    Raises:
        SetupError: something cannot start.
    """
    options = replace(options, home=make_home(options.home))
    project = find_project(Path.cwd())
    with locked(options.home):
        port = claim_port("127.0.0.1", options.prefect_port, "--prefect-port")
        stack = _Simulation(replace(options, prefect_port=port), project, say, say, arguments)
        asyncio.run(stack.run())
        return stack.code


class _Simulation(Stack):
    """The processes behind one simulation, and the simulation itself, which ends them all."""

    def __init__(
        self,
        options: StackOptions,
        project: Path,
        say: Say,
        announce: Callable[[str], None],
        arguments: Sequence[str],
    ) -> None:
        super().__init__(options, project, say, announce)
        self.code = 1
        self._arguments = arguments
        self._flow: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        options = self._options
        databases = await self._start_databases()
        await self._run("prefect", prefect_service(options, databases.prefect))
        await self._prepare_store(databases.store)
        self._say(f"Prefect UI: {options.prefect_url}")
        command = [sys.executable, "-m", "flows.simulate_job", "--own-home", *self._arguments]
        self._flow = await asyncio.create_subprocess_exec(
            *self._guard.guarded(command, signal.SIGTERM),
            stdin=asyncio.subprocess.DEVNULL,
            cwd=self._project,
            env=environment.for_coordinator(options, self._project, databases.store),
            start_new_session=True,
            pass_fds=(self._guard.descriptor,),
        )
        self._following = asyncio.create_task(self._follow(self._flow))

    async def _follow(self, running: asyncio.subprocess.Process) -> None:
        self.code = await running.wait()
        self._asked_to_stop.set()

    async def _stop(self) -> None:
        if self._flow is not None:
            await self._end(self._flow)
        await super()._stop()

    async def _end(self, running: asyncio.subprocess.Process) -> None:
        """Let the flow stop its rounds; what is left of its group is killed."""
        if running.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                running.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.wait(), STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        await running.wait()
        self._guard.forget(running.pid)

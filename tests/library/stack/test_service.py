"""A service: ready or refused with its log's end, started again when it dies, gone with all it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from catchment.errors import SetupError
from catchment.stack.guard import Guard
from catchment.stack.service import RunningService, Service, rotate, tail
from tests.library.stack.processes import alive, until

SERVE = """
import pathlib, sys, signal
pathlib.Path(sys.argv[1]).write_text("up")
print("serving", flush=True)
signal.pause()
"""


def service(
    folder: Path, program: str, *, ready: Callable[[], bool] | None = None, **more: object
) -> Service:
    return Service(
        name="thing",
        argv=[sys.executable, "-c", textwrap.dedent(program), str(folder / "up")],
        environment=dict(os.environ),
        folder=folder,
        log=folder / "thing.log",
        ready=ready or (folder / "up").exists,
        **more,  # type: ignore[arg-type]
    )


def run(what: Service, then: Callable[[RunningService], Awaitable[None]] | None = None) -> list[str]:
    """Start the service, do something, stop it; what was said."""
    said: list[str] = []

    async def story() -> None:
        guard = Guard()
        running = RunningService(what, guard, said.append)
        try:
            await running.start(deadline_s=10)
            if then is not None:
                await then(running)
        finally:
            await running.stop()
            guard.close()

    asyncio.run(story())
    return said


async def eventually(condition: Callable[[], object]) -> None:
    assert await asyncio.to_thread(until, condition)


def test_it_is_ready_only_when_its_probe_says_so_and_ends_when_stopped(tmp_path: Path) -> None:
    pids: list[int] = []

    async def look(running: RunningService) -> None:
        assert (tmp_path / "up").read_text() == "up"
        assert running.pid is not None
        pids.append(running.pid)

    assert run(service(tmp_path, SERVE), look) == []
    assert not alive(pids[0])


def test_a_death_at_the_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    dying = service(tmp_path, "print('no such setting'); raise SystemExit(3)", ready=lambda: False)
    with pytest.raises(SetupError, match=r"thing ended with exit code 3(.|\n)*no such setting"):
        run(dying)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = Service(
        "thing", ["/no/such/program"], dict(os.environ), tmp_path, tmp_path / "log", lambda: False
    )
    with pytest.raises(SetupError, match="/no/such/program: No such file"):
        run(missing)


def test_what_is_not_ready_in_time_is_refused_and_stopped(tmp_path: Path) -> None:
    never = service(tmp_path, SERVE, ready=lambda: False)
    said: list[str] = []

    async def story() -> None:
        guard = Guard()
        running = RunningService(never, guard, said.append)
        with pytest.raises(SetupError, match="is not ready in time"):
            await running.start(deadline_s=0.3)
        pid = running.pid
        await running.stop()
        guard.close()
        assert pid is not None
        assert not alive(pid)

    asyncio.run(story())


def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    async def kill(running: RunningService) -> None:
        first = running.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: running.pid not in {None, first})

    said = run(service(tmp_path, SERVE), kill)
    assert len(said) == 1
    assert said[0].startswith("thing was killed by SIGKILL; started again in 0.5 s")


def test_one_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    said = run(service(tmp_path, deaf, stop_timeout_s=0.2))
    assert said == ["thing does not stop within 0.2 s; killed"]


def test_what_it_started_is_gone_too(tmp_path: Path) -> None:
    parent = """
    import pathlib, subprocess, sys, signal
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path(sys.argv[1]).write_text(str(child.pid))
    signal.pause()
    """
    run(service(tmp_path, parent))
    assert until(lambda: not alive(int((tmp_path / "up").read_text())))


@pytest.mark.parametrize("deaf", [False, True])
def test_the_guard_ends_everything_when_its_owner_is_killed(tmp_path: Path, deaf: bool) -> None:
    serve = ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else "") + "signal.pause()"
    owner = textwrap.dedent(
        """
        import pathlib, signal, subprocess, sys
        from catchment.stack import guard
        watch = guard.Guard()
        program = "import os, pathlib, signal, sys\\n" \
            "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\\n" + sys.argv[2]
        command = watch.guarded([sys.executable, "-c", program, sys.argv[1]], signal.SIGTERM)
        subprocess.Popen(command, start_new_session=True, pass_fds=(watch.descriptor,))
        print(watch._process.pid, flush=True)
        signal.pause()
        """
    )
    mark = tmp_path / "pid"
    command = [sys.executable, "-c", owner, str(mark), serve]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        guard = int(process.stdout.readline())
        service = int(str(until(lambda: mark.exists() and mark.read_text())))
        process.kill()
        process.wait(10)
        assert until(lambda: not alive(service))
        assert until(lambda: not alive(guard))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_a_service_starts_in_its_last_moment_is_ended_too(tmp_path: Path) -> None:
    """A service holds the guard's second pipe; what it starts outlives it, and is announced there."""
    mark = tmp_path / "pid"
    starting = """
        import pathlib, signal, subprocess, sys
        from catchment.stack import guard
        pipe = int(sys.argv[1])
        def start(*_):
            late = guard.announced(pipe, ["sleep", "600"], signal.SIGTERM)
            child = subprocess.Popen(late, start_new_session=True, pass_fds=(pipe,))
            pathlib.Path(sys.argv[2]).write_text(str(child.pid))
            raise SystemExit
        signal.signal(signal.SIGTERM, start)
        print("up", flush=True)
        signal.pause()
        """
    owner = """
        import signal, subprocess, sys
        from catchment.stack import guard
        watch = guard.Guard()
        pipe = watch.announcements
        program = [sys.executable, "-c", sys.argv[2], str(pipe), sys.argv[1]]
        command = watch.guarded(program, signal.SIGTERM)
        subprocess.Popen(command, start_new_session=True, pass_fds=(watch.descriptor, pipe))
        signal.pause()
        """
    command = [sys.executable, "-c", textwrap.dedent(owner), str(mark), textwrap.dedent(starting)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        process.wait(10)
        late = int(str(until(lambda: mark.exists() and mark.read_text())))
        assert until(lambda: not alive(late))
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_logs_keep_one_older_generation(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    for text in ("first", "second"):
        rotate(log)
        log.write_text(text)
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "api.log.1").read_text() == "second"


def test_a_tail_is_short_however_long_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000 + b"\n" + b"\n".join(b"line %d" % number for number in range(100)))
    lines = tail(log).splitlines()
    assert len(lines) == 15
    assert lines[-1].strip() == "line 99"

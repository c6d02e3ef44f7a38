"""A process that has everything imported and forks one child for each flow run.

A flow run that starts from a cold interpreter costs seconds of imports; a fork costs milliseconds. The
process has one thread and no connection, so that forking is safe. It reads requests from a pipe, one
JSON line each, and tells of children that began and ended in the same way.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NoReturn
from uuid import UUID

from catchment.observe import logs


@dataclass
class WarmProcess:
    """The parent's end: send flow run ids, read what became of them."""

    pid: int
    requests: IO[str]
    reports: IO[str]

    def start(self, flow_run_id: str) -> None:
        """Ask for a child that executes a flow run."""
        self.requests.write(json.dumps({"run": flow_run_id}) + "\n")
        self.requests.flush()

    def told(self) -> Iterator[dict[str, Any]]:
        """Reports `{"run", "pid"}` and `{"run", "code"}` as they come; ends with the process."""
        for line in self.reports:
            yield json.loads(line)

    def close(self) -> None:
        """Let the process and all its children go."""
        self.requests.close()


def fork_warm_process() -> WarmProcess:
    """Fork here, while this process has one thread; imports must be done already."""
    request_read, request_write = os.pipe()
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(request_write)
        os.close(report_read)
        _serve(request_read, report_write)
    os.close(request_read)
    os.close(report_write)
    return WarmProcess(pid, os.fdopen(request_write, "w"), os.fdopen(report_read))


def _serve(requests: int, reports: int) -> NoReturn:
    """Fork on request until the pipe closes, then end all children."""
    woken_read, woken_write = os.pipe()
    os.set_blocking(woken_write, False)
    signal.set_wakeup_fd(woken_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # the runner decides; its end closes the pipe
    children: dict[int, str] = {}
    rest = b""
    while True:
        readable, _, _ = select.select([requests, woken_read], [], [])
        if woken_read in readable:
            os.read(woken_read, 4096)
        _report_ended(children, reports)
        if requests in readable:
            data = os.read(requests, 65536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                run = json.loads(line)["run"]
                pid = _fork_child(run, (requests, reports, woken_read, woken_write))
                children[pid] = run
                _tell(reports, {"run": run, "pid": pid})
    for pid in children:
        os.killpg(pid, signal.SIGKILL)
    os._exit(0)


def _report_ended(children: dict[int, str], reports: int) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        run = children.pop(pid, None)
        if run is not None:
            _tell(reports, {"run": run, "code": os.waitstatus_to_exitcode(status)})


def _tell(reports: int, report: dict[str, Any]) -> None:
    os.write(reports, json.dumps(report).encode() + b"\n")


def _fork_child(flow_run_id: str, inherited: tuple[int, ...]) -> int:
    pid = os.fork()
    if pid:
        os.setpgid(pid, pid)
        return pid
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for descriptor in inherited:
        os.close(descriptor)
    return _execute(flow_run_id)


def _execute(flow_run_id: str) -> NoReturn:
    """What `python -m prefect.engine` does, in this process; never returns to the caller's stack."""
    code = 1
    try:
        os.environ["PREFECT__FLOW_RUN_ID"] = flow_run_id
        _run_flow(UUID(flow_run_id))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process's edge; the engine has logged it
        traceback.print_exc()
    finally:
        _flush_logs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_flow(flow_run_id: UUID) -> None:
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import flow_run_logger, load_flow, load_flow_run, run_flow

    logs.take_over(logs.wanted(), "flow")
    with handle_engine_signals(flow_run_id):
        flow_run = load_flow_run(flow_run_id)
        flow = load_flow(flow_run)
        # On the main thread's own loop, so that Prefect can take SIGTERM.
        asyncio.run(run_flow(flow, flow_run=flow_run, error_logger=flow_run_logger(flow_run)))


def _flush_logs() -> None:
    """Logs on their way to the Prefect server leave before the process does; `os._exit` runs no atexit."""
    atexit._run_exitfuncs()

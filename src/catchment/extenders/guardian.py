"""The guardian: a small process over the one that runs a job's function, so that nothing of it is left over.

It is the subreaper of all that the function starts, also of what detaches itself. When the function's process
has ended, or the guardian's stdin closes, it kills all of that and ends. The flow process holds the other end
of stdin and sends nothing: it closes when the flow process dies, however suddenly.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from typing import NoReturn

from catchment.site import processes

_KILL_S = 5.0
_LOOK_S = 0.02


def guard() -> None:
    """Fork: returns in the child. The guardian stays behind and ends as the child does, by code or signal."""
    processes.become_subreaper()
    guardian = os.getpid()
    pid = os.fork()
    if pid:
        _watch(pid)
    processes.die_with_parent(guardian)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _watch(pid: int) -> NoReturn:
    ended = os.pidfd_open(pid)
    readable, _, _ = select.select([0, ended], [], [])
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended in readable else 1
    _kill_all()
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


def _kill_all() -> None:
    deadline = time.monotonic() + _KILL_S
    while (alive := processes.descendants(os.getpid())) and time.monotonic() < deadline:
        processes.signal_all(alive, signal.SIGSTOP)  # what is stopped starts no more
        processes.signal_all(alive, signal.SIGKILL)
        time.sleep(_LOOK_S)

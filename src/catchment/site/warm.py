"""A fork server with the framework loaded: a script's first line runs without paying for `import torch`.

The agent starts `python -m catchment.site.warm RUNTIME FD`. The server imports the framework once, on one
thread, and then forks a keeper for each request that arrives: one byte and two descriptors, the keeper's
control socket and the script's output. It ends when the agent's end of the socket closes.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib
import importlib.util
import os
import signal
import socket
import sys
import threading
import types
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from catchment.site import large_pages
from catchment.site.keeper import Next, keep
from catchment.site.launch_file import Launch

PRELOAD = {
    # The first optimizer imports torch._dynamo, which takes as long as torch itself.
    "pytorch": ("torch", "torch._dynamo", "torch.utils.data", "safetensors.torch", "catchment.sdk.pytorch"),
    "keras": ("keras", "catchment.sdk.keras"),
}
READY = b"r"
MANY_THREADS = 4
"""Exit code of a server whose framework has started threads: forking would copy locks that nobody opens."""


def serve(listening: socket.socket) -> Next:
    """Fork a keeper for each request; return what this process, or a copy of it, does next."""
    # Keepers report by themselves; waited for, what they used is seen in this process's times.
    signal.signal(signal.SIGCHLD, _bury)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(listening, 1, 2)
        if not request:
            return lambda: os._exit(0)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            return keep(socket.socket(fileno=descriptors[0]), descriptors[1], run_script)
        for descriptor in descriptors:
            os.close(descriptor)


def _bury(*_: object) -> None:
    """Wait for all keepers that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run_script(launch: Launch) -> NoReturn:
    """Run the script as `python script args` would, in this process, and end."""
    try:
        _run(launch)
    except SystemExit as wanted:
        _leave(_exit_code(wanted))
    _leave(0)


def _run(launch: Launch) -> None:
    """Run the script.

    Raises:
        SystemExit: the script asked for it, or raised; code 1 then, with its traceback on stderr.
    """
    _adopt(launch)
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=launch.script, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    try:
        code = compile(Path(launch.script).read_bytes(), launch.script, "exec", dont_inherit=True)
        exec(code, main.__dict__)  # noqa: S102 - running the script is what this process is for
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the interpreter's last resort, done here to hide our frames
        trace = _frames_of(launch.script, error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


def _exit_code(wanted: SystemExit) -> int:
    """The process's exit code for what was given to sys.exit."""
    if wanted.code is None or isinstance(wanted.code, int):
        return wanted.code or 0
    print(wanted.code, file=sys.stderr)
    return 1


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but without taking a framework apart that nobody needs any more.

    Threads are joined, exit functions run and streams flushed; that leaves out half a second of
    freeing memory, which the kernel does at once.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def _adopt(launch: Launch) -> None:
    """Make environment, arguments, module path, threads and random state those of a fresh process."""
    os.environ.clear()
    os.environ.update(launch.env)
    sys.argv = list(launch.argv[1:])
    extra = [entry for entry in launch.env.get("PYTHONPATH", "").split(os.pathsep) if entry not in sys.path]
    folder = str(Path(launch.script).parent)
    sys.path[0:0] = [folder, *(entry for entry in extra if entry and entry != folder)]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "torch" in sys.modules:
        importlib.import_module("torch").set_num_threads(launch.limits.threads)
    if "numpy" in sys.modules:
        # All forks would draw the same numbers: numpy seeds its global generator when it is imported.
        importlib.import_module("numpy").random.seed()


def _frames_of(script: str, trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the script."""
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace


def preload(runtime: str) -> None:
    """Import what scripts of this runtime import anyway."""
    for name in (*PRELOAD[runtime], "numpy", "catchment.sdk", "catchment.models.tensors"):
        importlib.import_module(name)
    _forget_finalizers()
    gc.collect()
    gc.freeze()  # what is loaded now is never looked at again, so its pages stay shared
    large_pages.collapse()


def _forget_finalizers() -> None:
    """Let scripts end without taking apart what is loaded now.

    torch unregisters thousands of kernels at exit: 30 ms, most of it for copying the pages that it shares.
    What a script registers itself is run as ever.
    """
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    # The first new one registers this again; without any, the list is not looked through.
    atexit.unregister(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def main() -> None:
    """Load, say so, serve; a copy that became a script or a keeper leaves `serve` and does its part."""
    runtime, descriptor = sys.argv[1], int(sys.argv[2])
    listening = socket.socket(fileno=descriptor)
    preload(runtime)
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        sys.exit(MANY_THREADS)
    listening.sendall(READY)
    serve(listening)()


if __name__ == "__main__":
    main()

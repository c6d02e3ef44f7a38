"""A training script, run in this process as `python script args` would run it, once for each client.

What one client could leave behind for the next is undone: environment, arguments, folder, module path,
modules of the script's own folder, and the state of the global random generators, which begin at the
client's seed. What is left are modules of libraries, which is what makes a simulation fast.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import io
import os
import random
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catchment.errors import ScriptFailed

MAX_OUTPUT = 20_000
"""Characters of a client's output that are kept: the last ones."""


@dataclass(frozen=True)
class Call:
    """How a script is run.

    Attributes:
        arguments: of its command line, without the script's name.
        environment: variables that it has beside the process's own.
        timeout_s: after so long it is interrupted.
    """

    script: Path
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    seed: int
    timeout_s: float


def run(call: Call, output: Tail) -> None:
    """Run the script; what it prints goes to `output`.

    Raises:
        ScriptFailed: it ended with an error, took too long, or cannot be compiled.
    """
    with _surroundings(call), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            with _deadline(call.timeout_s):
                _execute(call.script)
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise ScriptFailed(f"the script ended with {ended.code!r}: {output.last_line()}") from None
        except _TooLongError:
            raise ScriptFailed(f"the script took more than {call.timeout_s:g} s") from None
        except BaseException as error:
            traceback.print_exc(file=output)
            raise ScriptFailed(f"the script raised {type(error).__name__}: {error}") from error


class Tail(io.TextIOBase):
    """A text stream that keeps the last characters that were written to it."""

    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._parts: list[str] = []
        self._held = 0

    def write(self, text: str) -> int:
        """Add text."""
        self._parts.append(text)
        self._held += len(text)
        if self._held > 2 * self._characters:
            self._parts = [self.text()]
            self._held = len(self._parts[0])
        return len(text)

    def writable(self) -> bool:
        """Yes."""
        return True

    def text(self) -> str:
        """What is kept."""
        return "".join(self._parts)[-self._characters :]

    def last_line(self) -> str:
        """The last line that is not empty."""
        lines = self.text().strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


def _execute(script: Path) -> None:
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=str(script), __builtins__=builtins, __cached__=None)
    before = sys.modules["__main__"]
    sys.modules["__main__"] = main
    try:
        status = script.stat()
        exec(_compiled(script, status.st_mtime_ns, status.st_size), main.__dict__)  # noqa: S102 - the purpose
    finally:
        sys.modules["__main__"] = before


@functools.lru_cache(maxsize=64)
def _compiled(script: Path, _changed: int, _size: int) -> types.CodeType:
    return compile(script.read_bytes(), str(script), "exec", dont_inherit=True)


class _TooLongError(BaseException):
    """Not an Exception, so that a script's own handlers let it pass."""


@contextlib.contextmanager
def _deadline(timeout_s: float) -> Iterator[None]:
    """Interrupt what runs in the block when its time is over; only a process's main thread can be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_number: int, _frame: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, timeout_s))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _surroundings(call: Call) -> Iterator[None]:
    """What a fresh process would have; everything is as before afterwards."""
    environment = _variables()
    arguments, paths = sys.argv, list(sys.path)
    known, folder = tuple(sys.modules), os.getcwd()  # noqa: PTH109 - for each client
    os.environ.update(call.environment)
    sys.argv = [str(call.script), *call.arguments]
    sys.path.insert(0, str(call.script.parent))
    os.chdir(call.folder)
    _seed(call.seed)
    try:
        yield
    finally:
        os.chdir(folder)
        _restore(environment)
        sys.argv, sys.path[:] = arguments, paths
        if tuple(sys.modules) != known:
            _forget_modules(set(sys.modules) - set(known), call.script.parent)


def _variables() -> dict[bytes, bytes]:
    """The environment undecoded: most clients change three of its dozens of variables."""
    return dict(os.environb)


def _restore(environment: Mapping[bytes, bytes]) -> None:
    """Set all variables to what `_variables` gave before."""
    now = _variables()
    if now == environment:
        return
    for name in now.keys() - environment.keys():
        del os.environb[name]
    for name, value in environment.items():
        if now.get(name) != value:
            os.environb[name] = value


def _forget_modules(names: set[str], folder: Path) -> None:
    """Let those of the modules be imported anew whose files are in the folder."""
    for name in names:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin and Path(origin).is_relative_to(folder):
            del sys.modules[name]


def _seed(seed: int) -> None:
    random.seed(seed)
    if "numpy" in sys.modules:
        importlib.import_module("numpy").random.seed(seed % 2**32)
    if "torch" in sys.modules:
        torch = importlib.import_module("torch")
        torch.default_generator.manual_seed(
            seed
        )  # torch.manual_seed does so too, after a millisecond's detour
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)

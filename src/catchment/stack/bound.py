"""Start a program that gets a signal when its parent dies: `python bound.py PARENT SIGNAL PROGRAM ARG...`.

Run as a file, with the standard library alone, so that it costs some 20 ms. It replaces itself by the
program, whose process id is therefore the one that the parent knows. The kernel keeps the setting through
exec. (A preexec_fn would do the same, but is unsafe in a parent that has threads.)
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def bound_command(argv: Sequence[str], signal_number: int) -> list[str]:
    """`argv` so that the program gets the signal when the calling thread's process ends, however it ends.

    The kernel watches the *thread* that starts the program: call it from one that lives as long as the
    program shall, usually the main thread.
    """
    if not sys.platform.startswith("linux"):
        return list(argv)  # elsewhere a killed parent leaves its children; there is no such call
    shim = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*shim, str(os.getpid()), str(int(signal_number)), *argv]


def main(arguments: Sequence[str]) -> None:
    """Ask the kernel for the signal, then become the program."""
    parent, signal_number, *program = arguments
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        raise SystemExit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        raise SystemExit("the parent process has ended before the program began")
    try:
        os.execvp(program[0], program)  # noqa: S606 - a list, no shell
    except OSError as error:
        raise SystemExit(f"{program[0]}: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])

"""Finding, measuring and ending trees of processes (Linux, standard library only: keepers import it)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")


def prctl(option: int, value: int, second: int = 0) -> None:
    """Call prctl(2).

    Raises:
        OSError: it was refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_ulong(number) for number in (value, second, 0, 0))
    if libc.prctl(ctypes.c_int(option), *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children, so that none is ever out of reach."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """This process is killed when its parent ends; `parent` is the parent's id, taken before the fork."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):  # 0: a parent outside this process's pid namespace
        os.kill(os.getpid(), signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Parent of every live process; zombies are left out, they only wait to be reaped."""
    parents = {}
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name of the program stands in parentheses and may hold anything, even ")".
            state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended while we looked
        if state not in "ZX":
            parents[int(folder.name)] = int(parent)
    return parents


def trees(roots: Iterable[int], owner: int) -> tuple[dict[int, list[int]], list[int]]:
    """Live processes below `owner`, grouped by root, and those that no root has any more (orphans)."""
    parents = _parents()
    wanted = set(roots)
    groups: dict[int, list[int]] = {root: [] for root in wanted}
    orphans = []
    for pid in parents:
        ancestor = pid
        while ancestor not in wanted and ancestor in parents and ancestor != owner:
            ancestor = parents[ancestor]
        if ancestor in wanted:
            groups[ancestor].append(pid)
        elif ancestor == owner and pid != owner:
            orphans.append(pid)
    return groups, orphans


def descendants(owner: int) -> list[int]:
    """All live processes below `owner`, itself not included."""
    return trees((), owner)[1]


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process; those that are gone already are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group; nothing happens when it is gone already."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def resident_bytes(pids: Iterable[int]) -> int:
    """Sum of the resident sets; memory that processes share counts once for each of them. Cheap."""
    total = 0
    for pid in pids:
        try:
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue
    return total


def proportional_bytes(pids: Iterable[int]) -> int:
    """Sum of the proportional sets: shared memory is divided among those that share it. Slower."""
    total = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def marked(mark: str) -> list[int]:
    """Live processes whose environment at their start held `mark` ("NAME=value")."""
    wanted = mark.encode()
    found = []
    for pid in _parents():
        try:
            variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables and pid != os.getpid():
            found.append(pid)
    return found

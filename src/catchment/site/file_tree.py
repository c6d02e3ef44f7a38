"""The file tree that an isolated script sees (standard library only; runs inside a new user namespace).

It begins as an empty tmpfs and gets the places one by one, at the paths that they have outside, so that
no path in a script's environment or task file has to change. What is not placed is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catchment.site import namespaces
from catchment.site.namespaces import NO_DEVICES, NO_EXECUTION, NO_SETUID, READ_ONLY

Access = Literal["read", "write", "device", "hidden", "link"]

_OUTSIDE = "/.outside"
_EMPTY = "mode=755,size=4m"


@dataclass(frozen=True)
class Place:
    """One path of the tree; deeper places lie over shallower ones.

    Attributes:
        path: absolute, as the script sees it.
        access: how; "hidden" puts nothing, or an empty file, over what a shallower place shows.
        source: absolute path without symbolic links that is shown there; of a "link" where it leads.
    """

    path: str
    access: Access
    source: str = ""


def begin(base: str) -> None:
    """Make an empty tmpfs the root; what was the root lies under `/.outside`.

    Raises:
        OSError: the kernel refuses; so do the other functions here.
    """
    namespaces.unshare(namespaces.NEW_MOUNTS)
    namespaces.keep_mounts_private()
    namespaces.mount_new("tmpfs", base, NO_SETUID | NO_DEVICES, _EMPTY)
    outside = base + _OUTSIDE
    Path(outside).mkdir()
    namespaces.pivot_root(base, outside)
    os.chdir("/")
    os.umask(0o022)


def place_all(places: Iterable[Place], owner: int | None) -> list[str]:
    """Put the places where they belong, the shallow ones first; writable ones are given to `owner`.

    Returns:
        The folders that lie empty over others, to be given to `finish`.
    """
    covers = []
    for place in sorted(places, key=_depth):
        if place.access == "link":
            Path(place.path).parent.mkdir(parents=True, exist_ok=True)
            Path(place.path).symlink_to(place.source)
        elif place.access == "hidden":
            covers += _hide(Path(place.path))
        else:
            _show(place, owner)
    return covers


def _depth(place: Place) -> int:
    return place.path.rstrip("/").count("/")


def _hide(path: Path) -> list[str]:
    if path.is_dir():
        namespaces.mount_new("tmpfs", str(path), NO_SETUID | NO_DEVICES, _EMPTY)
        return [str(path)]
    if path.exists():
        namespaces.bind(f"{_OUTSIDE}/dev/null", str(path))
    return []


def _show(place: Place, owner: int | None) -> None:
    # Plain functions of `os`: this runs for dozens of places before each script's first line.
    source = _OUTSIDE + place.source
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(place.path, exist_ok=True)  # noqa: PTH103
    elif not os.path.exists(place.path):  # noqa: PTH110
        os.makedirs(os.path.dirname(place.path), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(place.path, os.O_WRONLY | os.O_CREAT, 0o644))
    namespaces.bind(source, place.path)
    if place.access == "device":
        return
    read_only = READ_ONLY if place.access == "read" else 0
    namespaces.restrict(place.path, read_only | NO_SETUID | NO_DEVICES, recursive=True)
    if place.access == "write" and owner is not None:
        _give(place.path, owner)


def _give(folder: str, owner: int) -> None:
    """Let the files in a writable folder, which the agent has just made, belong to the script's user."""
    os.chown(folder, owner, owner)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(parent, name), owner, owner, follow_symlinks=False)  # noqa: PTH118


def add_shared_memory(size_mb: int) -> None:
    """A /dev/shm of its own, which data loaders and collective libraries need."""
    Path("/dev/shm").mkdir(parents=True, exist_ok=True)  # noqa: S108 - a mount point in an empty tree
    data = f"mode=1777,size={size_mb}m"
    namespaces.mount_new("tmpfs", "/dev/shm", NO_SETUID | NO_DEVICES, data)  # noqa: S108


def add_processes(*, own: bool) -> None:
    """/proc: of the new process tree, or the one from outside."""
    Path("/proc").mkdir()
    if not own:
        namespaces.bind(f"{_OUTSIDE}/proc", "/proc")
        return
    namespaces.mount_new("proc", "/proc", NO_SETUID | NO_DEVICES | NO_EXECUTION)
    with suppress(OSError):  # not every kernel has it; the script has no capability either way
        Path("/proc/sys/user/max_user_namespaces").write_text("0")


def finish(covers: Iterable[str]) -> None:
    """Let go of the old tree, and let nobody add to the new one."""
    namespaces.detach(_OUTSIDE)
    Path(_OUTSIDE).rmdir()
    for path in (*covers, "/"):
        namespaces.restrict(path, READ_ONLY, recursive=False)

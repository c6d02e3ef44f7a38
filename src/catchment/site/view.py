"""What an isolated script sees of this machine: programs, Python and its packages, devices; nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import catchment
from catchment.site.file_tree import Place

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_SETTINGS = (
    "alternatives",
    "fonts",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
    "services",
    "terminfo",
    "timezone",
)
"""Of /etc: what programs look up. Keys, tokens and configurations of services lie beside these."""
_HARDWARE = ("/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_GPUS = ("nvidia*", "dri", "kfd", "infiniband", "dxg")
"""Devices of GPUs and of the networks between them. Disks are devices, too, and not among these."""
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


def read_only(path: str | Path) -> list[Place]:
    """Places that show a path read-only, at its own name and where its symbolic links lead."""
    literal, real = os.path.abspath(path), os.path.realpath(path)  # noqa: PTH100
    if not os.path.exists(real):  # noqa: PTH110
        return []
    return [Place(name, "read", real) for name in dict.fromkeys((literal, real))]


def machine(further: Iterable[Path] = ()) -> list[Place]:
    """Places that every isolated script has: programs, Python, devices, and what the site adds."""
    return system(*_python(), *map(str, further))


def system(*further: str) -> list[Place]:
    """Programs, their settings, devices and the further paths; of Python nothing but what these hold."""
    places = list(_programs())
    for path in (*(f"/etc/{name}" for name in _SETTINGS), *_HARDWARE, *_libraries(), *further):
        places += read_only(path)
    return _without_covered([*places, *_devices()])


def _programs() -> Iterator[Place]:
    for path in map(Path, _PROGRAMS):
        if path.is_symlink():
            yield Place(str(path), "link", str(path.readlink()))
        elif path.is_dir():
            yield Place(str(path), "read", str(path))


def _python() -> list[str]:
    """The interpreter and all folders that it imports from."""
    roots = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    asked = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # The first is the folder that the agent was started in or from, which is no business of a script.
    imported = [*(sys.path if sys.flags.safe_path else sys.path[1:]), *asked]
    ours = str(Path(catchment.__file__).parent)
    executable = str(Path(sys.executable).resolve().parent)
    return [path for path in (*roots, *imported, ours, executable) if os.path.isabs(path) and path != "/"]  # noqa: PTH117


def _libraries() -> list[str]:
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return [path for path in folders if os.path.isabs(path) and path != "/"]  # noqa: PTH117


def _devices() -> Iterator[Place]:
    for name in _DEVICES:
        yield Place(f"/dev/{name}", "device", f"/dev/{name}")
    for pattern in _GPUS:
        for path in Path("/dev").glob(pattern):
            yield Place(str(path), "device", str(path.resolve()))
    for name, target in _DEVICE_LINKS.items():
        yield Place(f"/dev/{name}", "link", target)


def _without_covered(places: Iterable[Place]) -> list[Place]:
    """The places without those that a shallower one shows already: each costs a mount."""
    kept: dict[str, Place] = {}
    for place in sorted(places, key=lambda place: len(Path(place.path).parts)):
        if place.path in kept:
            continue
        above = [kept[str(parent)] for parent in Path(place.path).parents if str(parent) in kept]
        inside = above and above[0].access == "read" == place.access and above[0].path == above[0].source
        if not (inside and place.path == place.source):
            kept[place.path] = place
    return list(kept.values())

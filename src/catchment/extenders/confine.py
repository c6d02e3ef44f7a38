"""Limits that the child of a job's extenders takes upon itself (Linux, standard library only)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from catchment.site import limits

_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x2008_0522
_KEPT_CAPABILITIES = 0b110
"""DAC_OVERRIDE and DAC_READ_SEARCH: root in a container may need them to read the store's files at all."""


def confine(memory_mb: int, file_mb: int) -> list[str]:
    """Take all limits upon this process, which has one thread; what the host does not allow, in words."""
    limits.apply(limits.Limits(memory_mb=memory_mb, data_mb=memory_mb, file_mb=file_mb, threads=1))
    missing = []
    for what, step in (("no network", _cut_off_network), ("no privileges", _drop_privileges)):
        try:
            step()
        except (OSError, AttributeError) as error:
            missing.append(f"{what} ({error})")
    return missing


def _cut_off_network() -> None:
    """Move to a network namespace without interfaces; as an ordinary user inside a user namespace."""
    user, group = os.getuid(), os.getgid()
    try:
        _libc("unshare", _CLONE_NEWNET)
    except PermissionError:
        _libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _drop_privileges() -> None:
    """No capabilities but those that read files, and none to be had by starting a program."""
    _libc("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    current = (ctypes.c_uint32 * 6)()
    _libc("capget", header, current)
    kept = [value & _KEPT_CAPABILITIES if index < 2 else 0 for index, value in enumerate(current)]
    _libc("capset", header, (ctypes.c_uint32 * 6)(*kept))


def _libc(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), function)

"""Who an isolated script is: its user, and the capabilities that it loses (standard library only)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from catchment.site import processes

SCRIPT_ID = 65533
"""User and group of isolated scripts where the agent is root: below 65536, so that containers have it mapped,
and not `nobody`, which other services share."""

DAC_READ_SEARCH = 2
_LAST_CAPABILITY = 63
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22


@dataclass(frozen=True)
class Identity:
    """Which user a script becomes.

    Attributes:
        own: it is a user of its own; otherwise it is the agent's, without any capability.
        user_map, group_map: what the new user namespace's maps hold.
    """

    own: bool
    user_map: str
    group_map: str

    @classmethod
    def of_this_process(cls) -> Identity:
        """What this process can give: a root that knows SCRIPT_ID gives that."""
        maps = [_id_map(name) for name in ("uid_map", "gid_map")]
        if os.geteuid() == 0 and all(_holds(known, SCRIPT_ID) for known in maps):
            lines = ["\n".join(f"{first} {first} {count}" for first, count in known) for known in maps]
            return cls(True, lines[0], lines[1])
        user, group = os.geteuid(), os.getegid()
        # Root of a small container: inside it must not be number 0, whose programs regain capabilities.
        return cls(False, f"{user or SCRIPT_ID} {user} 1", f"{group or SCRIPT_ID} {group} 1")


def _id_map(name: str) -> list[tuple[int, int]]:
    """First id and number of ids of each range that this user namespace knows."""
    lines = (Path("/proc/self") / name).read_text().splitlines()
    return [(int(line.split()[0]), int(line.split()[2])) for line in lines]


def _holds(known: list[tuple[int, int]], number: int) -> bool:
    return any(first <= number < first + count for first, count in known)


def drop(identity: Identity | None) -> None:
    """Become the script's user, without capabilities and without a way to regain any.

    A user of its own keeps one capability, and only towards what it can see at all: to read. Data sets
    belong to the site's people, and the sandbox shows read-only what the job may read.

    Args:
        identity: None: there is no user namespace, only regaining is barred.
    """
    if identity is not None:
        kept = (DAC_READ_SEARCH,) if identity.own else ()
        _bound(kept)
        if identity.own:
            processes.prctl(_PR_SET_KEEPCAPS, 1)
            os.setgroups(())
            os.setresgid(SCRIPT_ID, SCRIPT_ID, SCRIPT_ID)
            os.setresuid(SCRIPT_ID, SCRIPT_ID, SCRIPT_ID)
        _set_capabilities(kept)
        for capability in kept:
            processes.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
        processes.prctl(_PR_SET_DUMPABLE, 1)  # cleared by the change of user; /proc/self is its own
    processes.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _bound(kept: Collection[int]) -> None:
    """Take all other capabilities out of reach of any program that is executed later."""
    for capability in range(_LAST_CAPABILITY + 1):
        if capability in kept:
            continue
        try:
            processes.prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == _EINVAL:  # this kernel knows no more of them
                return
            raise


def _set_capabilities(kept: Collection[int]) -> None:
    mask = sum(1 << capability for capability in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("6I", low, low, low, high, high, high)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")

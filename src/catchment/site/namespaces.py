"""The Linux calls that isolation is made of; Python 3.11 has none of them (standard library only)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

NEW_MOUNTS = 0x00020000
NEW_HOSTNAME = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PIDS = 0x20000000
NEW_NETWORK = 0x40000000

READ_ONLY = 0x1
NO_SETUID = 0x2
NO_DEVICES = 0x4
NO_EXECUTION = 0x8

_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(returned: int, what: str) -> None:
    if returned != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move this process, or with NEW_PIDS its next children, into new namespaces."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(namespace: int, flags: int) -> None:
    """Move this process into the namespace that the descriptor names."""
    _check(_libc.setns(ctypes.c_int(namespace), ctypes.c_int(flags)), "setns")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    returned = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(returned, f"mount {kind or 'bind'} at {target}")


def mount_new(kind: str, target: str, flags: int, data: str | None = None) -> None:
    """Mount a new file system of a kind: "tmpfs", "proc"."""
    _mount(kind, target, kind, flags, data)


def bind(source: str, target: str) -> None:
    """Let the target show the source, with all that is mounted below it."""
    _mount(source, target, None, _MS_BIND | _MS_REC)


def keep_mounts_private() -> None:
    """What is mounted from now on is seen in this mount namespace alone."""
    _mount(None, "/", None, _MS_PRIVATE | _MS_REC)


def restrict(path: str, flags: int, *, recursive: bool) -> None:
    """Add flags (READ_ONLY, NO_SETUID ...) to the mount at the path; Linux 5.12 or newer."""
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    returned = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _check(returned, f"mount_setattr {path}")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace, and find the old one under `old` (below `new`)."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)), "pivot_root")


def detach(target: str) -> None:
    """Take a mount and all below it away."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(_MNT_DETACH)), f"umount {target}")


def set_hostname(name: str) -> None:
    """Name the machine, in a hostname namespace of one's own."""
    _check(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")


def raise_loopback() -> None:
    """Bring the interface `lo` up: a new network namespace has nothing else, and it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))

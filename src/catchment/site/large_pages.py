"""Large pages for what a fork server has loaded: its forks have less to copy (standard library only)."""

from __future__ import annotations

import ctypes
from pathlib import Path

_PAGE = 2 * 2**20
_COLLAPSE = 25
"""MADV_COLLAPSE, Linux 6.1 and newer."""


def collapse() -> int:
    """Put this process's own memory into large pages where the kernel can; how many bytes it took.

    A fork of a process with 200 MB in small pages copies 50,000 entries, and its end gives each one back.
    Nothing changes but the time: a kernel that refuses leaves all as it is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    taken = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *name = line.split()
        if not rights.startswith("rw") or inode != "0" or name not in ([], ["[heap]"]):
            continue
        first, last = (int(number, 16) for number in span.split("-"))
        begin, end = -(-first // _PAGE) * _PAGE, last // _PAGE * _PAGE
        if begin < end and not libc.madvise(
            ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), ctypes.c_int(_COLLAPSE)
        ):
            taken += end - begin
    return taken

"""How this process's memory is taken and given back."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 16 << 20
"""So much of what was freed last is kept for what is needed next."""


def keep_freed_memory() -> None:
    """Keep a little freed memory, where the C library is glibc; elsewhere nothing changes.

    Each piece of a large body takes some buffers for a moment. glibc would give their memory back to the
    system and ask for it again with the next piece: 0.4 of 2.1 CPU seconds for each GB received behind TLS.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_TOP_PAD, KEPT_BYTES // 4)
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)

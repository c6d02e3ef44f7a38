"""What the reading child takes upon itself before it looks at the first byte of a model."""

from __future__ import annotations

import os
import resource
from typing import Any

from catchment.extenders import confine as extenders
from catchment.site import processes


def confine(limits: dict[str, Any]) -> list[str]:
    """Allow this process no network, privileges or files to write, and only so much memory and time.

    Args:
        limits: of `running.Limits`, and `parent`: the id of the process that waits for this one.

    Returns:
        What the host denies, in words.
    """
    processes.die_with_parent(limits["parent"])
    missing = extenders.confine(limits["memory_mb"], file_mb=0)
    _lower(resource.RLIMIT_CPU, limits["cpu_s"])
    _lower(resource.RLIMIT_NOFILE, 64)
    os.umask(0o077)
    return missing


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (limit, limit))

"""What the tests of the stack share: waiting for conditions, and looking at processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], deadline_s: float = 60.0) -> object:
    """The condition's first true value, or what it was last when the deadline came."""
    end, pause = time.monotonic() + deadline_s, threading.Event()
    while not (value := condition()) and time.monotonic() < end:
        pause.wait(0.02)
    return value


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def mentioning(text: str) -> list[int]:
    """Ids of the running processes with `text` in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and alive(int(folder.name)):
            try:
                known = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in known:
                found.append(int(folder.name))
    return found

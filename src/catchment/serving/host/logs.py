"""Logs of replicas: written by the model servers themselves, kept short by the host, read for people.

A model server appends to its file, so the file may be emptied under it, and goes on being written to when
the host is gone.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from catchment.jobs.times import rfc3339

MOST_BYTES = 4 << 20
"""A log that is longer is put aside as the one older generation, and begins anew."""
READ_BYTES = 1 << 20
"""So much of a log's end is read for its last lines."""


def open_log(path: Path) -> int:
    """A descriptor to append to a log."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def cut(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Put a long log aside and empty it. A line that is written in this very moment may be lost."""
    try:
        if path.stat().st_size <= most_bytes:
            return
        shutil.copyfile(path, _older(path))
        os.truncate(path, 0)
    except FileNotFoundError:
        return


def last_lines(path: Path, most: int) -> list[tuple[str, str]]:
    """The last lines as (RFC 3339 time, text), oldest first. A line without a time has the one before's."""
    texts: list[str] = []
    for file in (_older(path), path):
        texts += _tail(file)
    texts = texts[-most:] if most > 0 else []
    at = _written_at(path)
    lines = []
    for text in texts:
        at = _time_of(text) or at
        lines.append((at, text))
    return lines


def last_error(path: Path, since: int = 0) -> str:
    """The message of the last error in a log from byte `since` on; else its last line; else "".

    A process that broke outside of its own logging leaves a stack, whose last line says most.
    """
    lines = _tail(path, since)
    for text in reversed(lines):
        line = _read(text)
        if line.get("level") in ("error", "critical"):
            return str(line.get("message", ""))[:2000]
    last = lines[-1] if lines else ""
    return "" if _read(last) else last[:2000]


def size(path: Path) -> int:
    """Bytes of a log; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _tail(path: Path, since: int = 0) -> list[str]:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            first = since if since <= end else 0  # it was emptied meanwhile
            start = max(first, end - READ_BYTES)
            file.seek(start)
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[1:] if start > first else lines


def _written_at(path: Path) -> str:
    try:
        return rfc3339(path.stat().st_mtime)
    except FileNotFoundError:
        return ""


def _time_of(text: str) -> str:
    found = _read(text).get("time")
    return found.replace("+00:00", "Z") if isinstance(found, str) else ""


def _read(text: str) -> dict[str, object]:
    if not text.startswith("{"):
        return {}
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}

"""Reading a file once: copied, hashed and counted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from io import FileIO
from pathlib import Path

PIECE_BYTES = 4 << 20


def copy_with_digest(source: Path, target: Path | None, told: Callable[[int, int], None]) -> tuple[str, int]:
    """Copy `source` to `target`, or only read it; its digest and how many bytes it has.

    Args:
        source: the file.
        target: a new file, or None.
        told: called with the bytes done and the bytes expected, after each piece.
    """
    sha = hashlib.sha256()
    total, done = source.stat().st_size, 0
    buffer = memoryview(bytearray(PIECE_BYTES))
    with FileIO(source) as file, FileIO(target, "w") if target else nullcontext() as out:
        while count := file.readinto(buffer):
            sha.update(buffer[:count])
            if out is not None:
                _write_all(out, buffer[:count])
            done += count
            told(done, total)
    return f"sha256:{sha.hexdigest()}", done


def _write_all(out: FileIO, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += out.write(data[done:])

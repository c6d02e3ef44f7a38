"""The folder of one job: made for its children, and removed whatever they have done in it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catchment.formats.convert.contract import SAMPLES, TARGET, WORK

WRITABLE = (SAMPLES, TARGET, WORK)
"""Where a child may write."""
REMOVE_S = 120


@contextmanager
def job_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder laid out for children; all of it is gone afterwards."""
    base = (parent or Path(os.environ.get("TMPDIR", "/tmp"))).resolve()  # noqa: S108 - mode 700 below
    folder = base / f"catchment-conversion-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True)
    try:
        for name in WRITABLE:
            (folder / name).mkdir()
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, also where a child has nested folders deeper than Python calls itself."""
    try:
        shutil.rmtree(folder)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", str(folder)], check=True, timeout=REMOVE_S)

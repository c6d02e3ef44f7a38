"""Files that a child has made, taken over: plain files and folders only, within a size."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from catchment.errors import ConversionFailed
from catchment.formats.convert.running import Bounds

MAX_FILES = 10_000
_MB = 1_000_000


def take_over(made: Path, target: Path, bounds: Bounds) -> None:
    """Copy what a conversion made to the new folder `target`, which is whole or not there.

    Raises:
        ConversionFailed: there is nothing, too much, or something that is no plain file.
    """
    files = _files(made)
    if not files:
        raise ConversionFailed("the converter made no files")
    total = sum(path.stat().st_size for path in files)
    if len(files) > MAX_FILES or total > bounds.target_mb * _MB:
        raise ConversionFailed(
            f"the converter made {len(files)} files of {total // _MB} MB; "
            f"{MAX_FILES} files of {bounds.target_mb} MB are allowed"
        )
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for path in files:
            copy = aside / path.relative_to(made)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy, follow_symlinks=False)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _files(made: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(made):
        for name in (*folders, *names):
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise ConversionFailed(f"the converter made {name!r}, which is neither a file nor a folder")
            if stat.S_ISREG(mode):
                found.append(path)
    return sorted(found)

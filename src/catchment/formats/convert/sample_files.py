"""Samples and predictions as files, which pass between processes that trust each other little."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from catchment.errors import BadTensors
from catchment.formats.convert.contract import SAMPLES
from catchment.formats.convert.samples import Arrays

_NAMES = "names"
MAX_BYTES = 4_000_000_000


def write(folder: Path, label: str, index: int, arrays: Arrays) -> None:
    """Write one sample, or what a model made of it."""
    # The arrays are numbered: a tensor's name may hold "/", which a zip's member must not.
    numbered = {str(number): _plain(array) for number, array in enumerate(arrays.values())}
    with (folder / SAMPLES / f"{label}-{index}.npz").open("wb") as file:
        np.savez(file, **{_NAMES: np.array(json.dumps(list(arrays)))}, **numbered)  # type: ignore[arg-type]


def read(folder: Path, label: str, index: int) -> Arrays:
    """What `write` wrote.

    Raises:
        BadTensors: the file is damaged, too large, or holds objects.
    """
    path = folder / SAMPLES / f"{label}-{index}.npz"
    try:
        if path.is_symlink() or path.stat().st_size > MAX_BYTES:
            raise BadTensors(f"{path.name} is no sample")
        with zipfile.ZipFile(path) as zipped:  # members are stored, so that none unpacks to more than it is
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in zipped.infolist()):
                raise BadTensors(f"{path.name} is compressed, which no sample is")
        with np.load(path, allow_pickle=False) as loaded:
            names = json.loads(str(loaded[_NAMES]))
            return {str(name): loaded[str(number)] for number, name in enumerate(names)}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadTensors(f"{path.name} cannot be read: {error}") from error


def present(folder: Path, label: str, index: int) -> bool:
    """Whether such a file was written."""
    return (folder / SAMPLES / f"{label}-{index}.npz").is_file()


def count(folder: Path) -> int:
    """How many samples lie there."""
    return len(list((folder / SAMPLES).glob("in-*.npz")))


def _plain(array: object) -> np.ndarray:
    """Text as NumPy's own text: arrays of objects are only read by unpickling."""
    values = np.asarray(array)
    return values.astype(np.str_) if values.dtype == object else values

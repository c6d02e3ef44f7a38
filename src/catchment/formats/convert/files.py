"""Finding and reading the files of a model's folder."""

from __future__ import annotations

from pathlib import Path

from catchment.errors import ConversionFailed

LARGEST_TEXT_BYTES = 64 * 2**20


def only_file(folder: Path, pattern: str) -> Path:
    """The one plain file in the folder that matches.

    Raises:
        ConversionFailed: there is none, or more than one.
    """
    found = sorted(path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConversionFailed(f"exactly one {pattern} is expected beside the model's files, found: {names}")
    return found[0]


def read_text(path: Path) -> str:
    """The file as UTF-8 text.

    Raises:
        ConversionFailed: it is larger than 64 MiB, or no text.
    """
    if path.stat().st_size > LARGEST_TEXT_BYTES:
        raise ConversionFailed(f"{path.name} is larger than 64 MiB, that is no network's description")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise ConversionFailed(f"{path.name} is no UTF-8 text") from None

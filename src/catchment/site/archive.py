"""Unpacking scripts that were sent: a zip may hold plain files and folders, nothing else."""

from __future__ import annotations

from pathlib import Path

from catchment import archives
from catchment.errors import SiteError

MAX_FILES = 20_000
MAX_BYTES = 2**30


def unpack(archive: Path, folder: Path) -> None:
    """Unpack `archive` into the new folder `folder`.

    Raises:
        SiteError: it is no zip, or holds what a folder of scripts cannot hold; nothing is left behind then.
    """
    content = archives.Content("the sent scripts", SiteError, max_files=MAX_FILES, max_bytes=MAX_BYTES)
    archives.unpack(archive, folder, content)

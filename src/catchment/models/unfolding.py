"""The folder of a model that came in as an archive: safe names, plain modes, synced files."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from catchment.durable import sync_folder, write_synced
from catchment.errors import BadArtifact
from catchment.models import config as configs
from catchment.models import documents
from catchment.models.config import ORMBFILE, ModelConfig
from catchment.models.files import MODEL_FOLDER, Limits, Names
from catchment.models.receiving import Incoming

_LATEST = 2**33
"""Seconds since 1970 that file systems can hold; the year 2242."""


class Tree:
    """A folder with `ormbfile.yaml` and `model/`, while it is made.

    Args:
        folder: is not there yet.
        limits: of all archives together.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._left = limits
        self._names = Names()
        folder.mkdir()

    def add(self, incoming: Incoming, name: str) -> None:
        """Write a file of an archive under this name.

        Raises:
            BadArtifact: the archive is damaged, the name is taken, or it is too large.
        """
        path = self._take(name, incoming.size)
        with path.open("xb") as file:
            for piece in incoming.read():
                file.write(piece)
            file.flush()
            _settle(path, file.fileno(), incoming.mode, incoming.mtime)

    def place(self, name: str, blob: Path, mode: int, mtime: int, *, move: bool) -> None:
        """Put a whole file in. Raises BadArtifact when its name is taken, or it is too large."""
        path = self._take(name, blob.stat().st_size)
        if move:
            blob.rename(path)
        else:
            shutil.copyfile(blob, path)
        # As the owner of a file one may always change its mode first.
        path.chmod(0o600)
        with path.open("rb") as file:
            _settle(path, file.fileno(), mode, mtime)

    def finish(self, config: ModelConfig) -> None:
        """Describe it, unless it came with a description.

        Raises:
            BadArtifact: that cannot be read, or there is no file below `model/`.
        """
        if not (self._folder / MODEL_FOLDER).is_dir():
            raise BadArtifact(f"the artifact holds no file below {MODEL_FOLDER}/")
        described = self._folder / ORMBFILE
        if described.exists():
            with described.open("rb") as file:
                configs.from_yaml(file.read(documents.MAX_YAML_BYTES + 1))
        else:
            write_synced(described, config.to_yaml())
        for folder, _, _ in os.walk(self._folder):
            sync_folder(Path(folder))

    def _take(self, name: str, size: int) -> Path:
        """The path of a new file."""
        self._names.add(name)
        if not self._left.max_files or size > self._left.max_bytes:
            raise BadArtifact("the archives hold more files or bytes together than are allowed")
        self._left = replace(
            self._left, max_files=self._left.max_files - 1, max_bytes=self._left.max_bytes - size
        )
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _settle(path: Path, descriptor: int, mode: int, mtime: int) -> None:
    """Give a written file its time and mode, and make it outlive a power failure.

    The owner can read it, whatever the mode says, and not everybody can write to it.
    """
    os.fchmod(descriptor, mode & 0o775 | 0o400)
    seconds = min(max(mtime, 0), _LATEST)
    os.utime(path, (seconds, seconds))
    os.fsync(descriptor)

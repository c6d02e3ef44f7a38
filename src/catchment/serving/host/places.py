"""Where a serving host keeps files: models by digest, a log for each replica."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Collection
from pathlib import Path

from catchment.catalog import content
from catchment.catalog import rows as catalog_rows
from catchment.catalog.rows import VersionFile
from catchment.errors import WrongState
from catchment.model_jobs.files import laid_out
from catchment.serving.workload import ServedModel
from catchment.store import Store
from catchment.store.database import Transaction


class Places:
    """The folder `servings` of an installation's home."""

    def __init__(self, home: Path) -> None:
        self.root = home.absolute() / "servings"
        self.models = self.root / "models"

    def make(self) -> None:
        """Make the folders; ours alone, as the home is."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.models.mkdir(exist_ok=True)

    def model(self, digest: str) -> Path:
        """The folder of the version with this digest."""
        return self.models / digest.rpartition(":")[2]

    def log(self, uid: str, key: str, replica: int) -> Path:
        """The log of a replica of a workload of the serving `uid`."""
        return self.root / uid / f"{key}-{replica}.log"

    def forget(self, uid: str, key: str) -> None:
        """Remove the logs of a workload that is gone, and the serving's folder with the last of them."""
        for log in (self.root / uid).glob("*.log*"):
            if log.name.split(".log")[0].rpartition("-")[0] == key:
                log.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are there still, or it never was
            (self.root / uid).rmdir()


class Models:
    """Versions' files as folders, each laid out once, however many replicas read it.

    Where blobs lie in a folder of the same file system, the files are links to them: no bytes are copied,
    and they stay as long as the folder does.
    """

    def __init__(self, store: Store, places: Places) -> None:
        self._store = store
        self._places = places
        self._locks: dict[str, threading.Lock] = {}

    def folder(self, model: ServedModel) -> Path:
        """The folder with a version's files.

        Raises:
            NotFound: the version, or a blob of it, is gone.
            WrongState: the version is not ready, or has other bytes than those that are to be served.
            Unreachable: the storage does not answer.
        """
        with self._locks.setdefault(model.digest, threading.Lock()):
            folder = self._places.model(model.digest)
            if folder.exists():
                return folder
            return laid_out(self._store, folder, self._store.db.read(lambda tx: files_to_serve(tx, model)))

    def sweep(self, digests: Collection[str]) -> None:
        """Remove the folders of all versions but these."""
        kept = {self._places.model(digest).name for digest in digests}
        for folder in self._places.models.iterdir():
            if folder.name.removesuffix("-new") not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def files_to_serve(tx: Transaction, model: ServedModel, *, lock: bool = False) -> list[VersionFile]:
    """The files of a version that is served; with `lock` it is not deleted until the transaction ends.

    Raises:
        NotFound, WrongState: as `Models.folder`.
    """
    row = catalog_rows.by_id(tx, model.model_id, lock=lock)
    files = content.require_ready(tx, row)
    if row.digest != model.digest:
        raise WrongState(
            f"{model.reference} has other bytes now ({row.digest}) than when it was resolved ({model.digest})"
        )
    return files

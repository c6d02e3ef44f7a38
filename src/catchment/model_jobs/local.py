"""Steps of ModelJobs in confined children of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from catchment.catalog.rows import VersionFile
from catchment.formats.convert.environments import Environments
from catchment.formats.extract.result import Extracted
from catchment.formats.extract.running import run_extraction
from catchment.model_jobs import converting, files, rows, working
from catchment.model_jobs.claim import ModelJobClaim, held, stop_watched
from catchment.model_jobs.manager import work_folder
from catchment.model_jobs.states import CONVERT, PULL
from catchment.store import Store


class LocalExecutor:
    """An Executor whose files lie in the job's folder, on the file system of the blobs."""

    def prepare(self, store: Store, claim: ModelJobClaim, found: list[VersionFile]) -> None:
        """Lay the source's files out."""
        place = work_folder(store, claim.uid) / files.SOURCE
        shutil.rmtree(place, ignore_errors=True)
        files.laid_out(store, place, found)

    def extract(self, store: Store, claim: ModelJobClaim, step: str) -> Extracted:
        """Read the signature in a child."""
        steps = store.db.write(lambda tx: held(tx, claim)).steps
        if CONVERT in steps:
            return run_extraction(_result_folder(store, claim), steps[CONVERT]["format"])
        return run_extraction(files.source_folder(store, claim), steps[PULL]["format"])

    def convert(self, store: Store, claim: ModelJobClaim) -> dict[str, Any]:
        """Convert in the backends' environments, which are built where needed."""
        source = files.source_folder(store, claim)
        task = store.db.write(lambda tx: converting.task_of(tx, held(tx, claim)))
        target = work_folder(store, claim.uid) / files.MADE
        shutil.rmtree(target, ignore_errors=True)
        if task.format == "ONNX":
            files.copy_external_data(source)
        built = store.settings.effective_environments_dir
        environments = Environments(built, progress=lambda text: _say(store, claim, text))
        with stop_watched(store, claim) as stop:
            found = working.work(task, source, target, environments, stop)
        files.keep_made(store, claim, target)
        shutil.rmtree(target, ignore_errors=True)
        return found

    def forget(self, store: Store, namespace: str, uid: str) -> None:
        """Nothing: children die with their parents."""


def _result_folder(store: Store, claim: ModelJobClaim) -> Path:
    """What the conversion has made, as a folder; laid out anew where it is not there."""
    kept = store.db.read(lambda tx: files.made_files(tx, claim.uid))
    return files.laid_out(store, work_folder(store, claim.uid) / "result", kept)


def _say(store: Store, claim: ModelJobClaim, text: str) -> None:
    store.db.write(lambda tx: rows.line(tx, claim.uid, text))

"""The folder that a script works in (`catchment.wire.task`): prepared before it, read after it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catchment import archives
from catchment.errors import BadTensors, ScriptFailed
from catchment.models.tensors import TensorFile, check_update, file_digest
from catchment.wire.messages import Blob, SitePrivacy, WorkOrder, plain_file_name
from catchment.wire.task import FILES, METRICS, PARAMETERS, PREPARED, RESULT, UPDATE, WEIGHTS, TaskFile

_MAX_JSON_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Committed:
    """What a script has committed."""

    update: Blob | None
    metrics: dict[str, Any]
    parameters: dict[str, Any]
    files: Blob | None = None


def prepare(folder: Path, order: WorkOrder, datasets: dict[str, str], *, dry_run: bool = False) -> Path:
    """Make a task folder, still without weights; return the path of its task file."""
    for part in (folder, folder / PREPARED, folder / RESULT, folder / "tmp"):
        part.mkdir(parents=True)
    task = TaskFile(
        kind=order.kind,
        namespace=order.namespace,
        job_id=order.job_id,
        run=order.run,
        round=order.round,
        runtime=order.runtime,
        seed=order.seed,
        datasets=datasets,
        parameters=order.prepared_parameters,
        dry_run=dry_run,
    )
    path = folder / "task.json"
    path.write_text(task.model_dump_json(indent=1))
    return path


def committed(folder: Path, order: WorkOrder) -> Committed:
    """Read what was committed, and check that an update fits the round's weights.

    Raises:
        ScriptFailed: something is missing, or cannot be used; the message says what to do.
    """
    metrics = _json_object(folder / METRICS)
    parameters = _json_object(folder / PARAMETERS) or {}
    files = _packed_files(folder) if order.files_wanted else None
    if order.kind == "evaluate":
        if metrics is None:
            raise ScriptFailed("the script committed no metrics: call fl.commit_metrics({...})")
        return Committed(None, metrics, parameters, files)
    return Committed(_checked_update(folder, order.privacy), metrics or {}, parameters, files)


def _checked_update(folder: Path, privacy: SitePrivacy | None) -> Blob:
    path = folder / UPDATE
    if (folder / WEIGHTS).is_symlink():
        raise ScriptFailed(f"the script replaced {WEIGHTS} by a link")
    if path.is_symlink() or not path.is_file():
        raise ScriptFailed("the script committed no weights: call fl.commit_weights(model)")
    try:
        with TensorFile.open(folder / WEIGHTS) as weights, TensorFile.open(path) as update:
            check_update(update, weights.signature)
    except BadTensors as error:
        raise ScriptFailed(f"the committed weights cannot be used: {error}") from error
    if privacy is not None:
        path = _privatised(path, privacy)
    return Blob(digest=file_digest(path), size_bytes=path.stat().st_size)


def _privatised(path: Path, privacy: SitePrivacy) -> Path:
    from catchment.privacy.site import privatise  # other jobs need no cryptography

    try:
        return privatise(path, privacy).replace(path)
    except BadTensors as error:
        raise ScriptFailed(f"the update cannot be noised as the job asks: {error}") from error


def _packed_files(folder: Path) -> Blob | None:
    """What was handed over with fl.put_file as one archive; None when it was nothing."""
    files = {path.name: path for path in (folder / RESULT).iterdir()}
    for name, path in files.items():
        if path.is_symlink() or not path.is_file():
            raise ScriptFailed(f"result/{name} is no plain file; hand files over with fl.put_file")
        try:
            plain_file_name(name)
        except ValueError as error:
            raise ScriptFailed(f"a file that was handed over cannot be sent: {error}") from error
    if not files:
        return None
    archive = folder / FILES
    archive.unlink(missing_ok=True)
    archives.pack(files, archive)
    return Blob(digest=file_digest(archive), size_bytes=archive.stat().st_size)


def _json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None when there is no file.

    A link is not followed: it may lead to what the agent may read and the script may not.
    """
    if path.is_symlink() or not path.is_file():
        return None
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ScriptFailed(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ScriptFailed(f"{path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ScriptFailed(f"{path.name} holds no JSON object")
    return content

"""The task folder that this process works for, and who of its ranks may write to it."""

from __future__ import annotations

import functools
import json
import os
import secrets
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from catchment.errors import SdkError
from catchment.wire.task import TASK_VARIABLE, TaskFile

_OUTSIDE = (
    f"this script runs outside of a Catchment task: the environment variable {TASK_VARIABLE}, with which "
    "a site names the task to a script that it starts, is {problem}. To try the script on this machine: "
    "python -m catchment.sdk.dry_run --script train.py --weights init.safetensors "
    "--runtime pytorch --dataset NAME=PATH"
)


# The original raised KeyError here, and scripts written for it catch that.
class UnknownDatasetError(SdkError, KeyError):
    """The task has no data set of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def task_folder() -> Path:
    """The folder of the task that this process was started for.

    Raises:
        SdkError: it was not started for one.
    """
    value = os.environ.get(TASK_VARIABLE)
    if not value:
        raise SdkError(_OUTSIDE.format(problem="not set"))
    if not os.path.isfile(value):  # noqa: PTH113 - asked with each call of the SDK
        raise SdkError(_OUTSIDE.format(problem=f"'{value}', which is no file"))
    return _path(value).parent


def task() -> TaskFile:
    """All that is known about the task: job, round, runtime, seed, data sets, parameters.

    Raises:
        SdkError: outside of a task, or the task file was written by another version of Catchment.
    """
    task_folder()
    path = os.environ[TASK_VARIABLE]
    status = os.stat(path)  # noqa: PTH116 - asked with each call of the SDK
    try:
        return _read(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except ValidationError as error:
        raise SdkError(f"{path} is no task file of this version of Catchment: {error}") from None


@functools.lru_cache(maxsize=1)
def _read(path: str, _inode: int, _changed_ns: int, _size_bytes: int) -> TaskFile:
    """The task file, parsed once: each call of the SDK asks for it."""
    return TaskFile.read(Path(path))


@functools.lru_cache(maxsize=1)
def _path(value: str) -> Path:
    return Path(value)


def seed() -> int:
    """Seed for this site's randomness in this round; the same when the round is repeated."""
    return task().seed


def get_dataset_path(name: str) -> str:
    """Absolute path of the data set `name` at this site.

    Raises:
        SdkError: the job names no such data set (a KeyError too).
    """
    datasets = task().datasets
    if name not in datasets:
        known = ", ".join(sorted(datasets)) or "none"
        raise UnknownDatasetError(f"the job has no data set '{name}'; its data sets: {known}")
    return datasets[name]


def is_writer() -> bool:
    """Whether this process writes results: of several workers of one task only rank 0 does.

    Raises:
        SdkError: the environment variable RANK is no number.
    """
    rank = os.environ.get("RANK") or "0"
    if not rank.isascii() or not rank.isdigit():
        raise SdkError(f"the environment variable RANK is '{rank}', not a number")
    return int(rank) == 0


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path`; a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file at `path` with a JSON object."""
    write_bytes(path, json.dumps(content, allow_nan=False, ensure_ascii=False).encode())

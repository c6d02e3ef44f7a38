"""Custom parameters and files from the coordinator, and back to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catchment.errors import SdkError
from catchment.sdk.folder import is_writer, task, task_folder, write_bytes, write_json
from catchment.sdk.plain import is_finite, plain
from catchment.wire.task import PARAMETERS, PREPARED, RESULT

_MAX_NAME_BYTES = 200


# The original raised FileNotFoundError here, and scripts written for it catch that.
class MissingFileError(SdkError, FileNotFoundError):
    """The coordinator sent no file of that name."""


def get_parameter(key: str) -> Any:
    """The coordinator's custom parameter `key`; None where there is none."""
    return get_parameters().get(key)


def get_parameters() -> dict[str, Any]:
    """All custom parameters from the coordinator."""
    return dict(task().parameters)


def put_parameter(key: str, value: Any) -> None:
    """Add one custom parameter to those that go back to the coordinator (rank 0 only).

    Raises:
        SdkError: outside of a task, or the value is nothing that JSON can hold.
    """
    path = task_folder() / PARAMETERS
    before: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    _write(path, {**before, key: value})


def put_parameters(parameters: Mapping[str, Any]) -> None:
    """Replace the custom parameters that go back to the coordinator (rank 0 only).

    Raises:
        SdkError: outside of a task, or a value is nothing that JSON can hold.
    """
    _write(task_folder() / PARAMETERS, dict(parameters))


def get_file(name: str, f: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """A file that the coordinator prepared: its bytes, or `f(path, **kwargs)`.

    Raises:
        SdkError: no such file (a FileNotFoundError too), or no plain file name.
    """
    path = task_folder() / PREPARED / _plain_name(name)
    if not path.is_file():
        sent = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
        raise MissingFileError(f"the coordinator sent no file '{name}'; it sent: {', '.join(sent) or 'none'}")
    return path.read_bytes() if f is None else f(str(path), **kwargs)


def put_file(name: str, content: Any, f: Callable[..., Any] | None = None, **kwargs: Any) -> None:
    """Hand a file over to the coordinator: `content`, or what `f(open_file, content, **kwargs)` writes.

    Args:
        name: plain file name.
        content: bytes or text; anything where `f` is given.
        f: writes `content` to a file that is open for writing bytes, such as a framework's save function.
        kwargs: further arguments of `f`.

    Raises:
        SdkError: outside of a task, no plain file name, or content of another type.
    """
    path = task_folder() / RESULT / _plain_name(name)
    if f is None and not isinstance(content, (bytes, bytearray, memoryview, str)):
        raise SdkError(
            f"put_file('{name}') takes bytes or text, not a {type(content).__name__}; give f= to write it"
        )
    if not is_writer():
        return
    path.parent.mkdir(exist_ok=True)
    if f is None:
        write_bytes(path, content.encode() if isinstance(content, str) else bytes(content))
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            f(file, content, **kwargs)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, parameters: dict[str, Any]) -> None:
    values = plain("parameters", parameters)
    for key, value in values.items():
        if not is_finite(value):
            raise SdkError(f"parameter '{key}' is not finite: {value}")
    if is_writer():
        write_json(path, values)


def _plain_name(name: str) -> str:
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or any(mark in name for mark in ("/", "\\", "\0"))
        or len(name.encode()) > _MAX_NAME_BYTES
    ):
        raise SdkError(
            f"{name!r} is no plain file name; give one without folders, up to {_MAX_NAME_BYTES} bytes"
        )
    return name

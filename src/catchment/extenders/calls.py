"""The three functions of a script as they are called in the child: their arguments and their results."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from catchment import archives
from catchment.errors import BadTensors, TransferError
from catchment.extenders import values
from catchment.extenders.child import OUT, WORK
from catchment.models.signature import Array
from catchment.models.tensors import TensorFile, write_tensors

Function = Callable[..., Any]
NEW_WEIGHTS = "weights.safetensors"
AGGREGATED = "aggregated.safetensors"


class UnusableResultError(Exception):
    """The function returned something that cannot be used; the message says what would be right."""


def broadcast(function: Function, arguments: dict[str, Any], folder: Path) -> Any:
    """`function(parameters) -> (files, parameters)`; files are copied to `out/` under their index."""
    returned = function(arguments["parameters"])
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise UnusableResultError(f"returned {_shown(returned)}, two dicts are required: files, parameters")
    files, parameters = returned
    for what, value in (("files", files), ("parameters", parameters)):
        if not isinstance(value, dict):
            raise UnusableResultError(f"returned {_shown(value)} as {what}, a dict is required")
    for index, (name, path) in enumerate(files.items()):
        if not isinstance(name, str):
            raise UnusableResultError(f"returned {name!r} as a file's name, text is required")
        if not isinstance(path, (str, Path)) or not (source := folder / WORK / path).is_file():
            raise UnusableResultError(f"returned {path!r} as file {name!r}, which is no file")
        shutil.copyfile(source, folder / OUT / str(index))
    try:
        return {"files": list(files), "parameters": values.plain(parameters)}
    except BadTensors as error:
        raise UnusableResultError(f"returned parameters that cannot be sent: {error}") from error


def aggregate(function: Function, arguments: dict[str, Any], folder: Path) -> Any:
    """`function(update, previous) -> dict` for each update of the round, one after another."""
    previous: Any = None
    for index, update in enumerate(arguments["updates"]):
        custom = folder / f"custom-{index}"
        if update["files"] is None:
            custom.mkdir()
        else:
            content = archives.Content(
                f"the files of {update['client_id']}",
                TransferError,
                max_bytes=arguments["max_files_bytes"],
                flat=True,
            )
            archives.unpack(Path(update["files"]), custom, content)
        previous = function(
            {
                "weights": _arrays(Path(update["weights"])),
                "global_weights": _arrays(Path(arguments["weights"])),
                "metrics": update["metrics"],
                "custom_files": str(custom),
                "custom_params": update["parameters"],
                "client_id": update["client_id"],
            },
            previous,
        )
        if not isinstance(previous, dict):
            raise UnusableResultError(
                f"returned {_shown(previous)} for the update of {update['client_id']}, a dict is required"
            )
    return _aggregated(previous or {}, folder, keep=arguments["keep"])


def _aggregated(final: dict[Any, Any], folder: Path, *, keep: bool) -> dict[str, bool]:
    replaces = "weights" in final
    if replaces:
        given = final["weights"]
        if not isinstance(given, Mapping):
            raise UnusableResultError(f"returned {_shown(given)} as weights, a dict of arrays is required")
        for name, array in given.items():
            if not isinstance(name, str) or not isinstance(array, (np.ndarray, np.generic)):
                raise UnusableResultError(
                    f"returned {_shown(array)} as weights of {name!r}, a numpy array is required"
                )
        write_tensors(folder / OUT / NEW_WEIGHTS, {name: np.asarray(array) for name, array in given.items()})
    if keep:
        rest = {key: value for key, value in final.items() if key != "weights"}
        try:
            values.save(rest, folder / OUT / AGGREGATED)
        except BadTensors as error:
            raise UnusableResultError(f"returned what finish cannot be given: {error}") from error
    return {"replaces": replaces}


def finish(function: Function, arguments: dict[str, Any], folder: Path) -> Any:
    """`function(result)`; what it returns is ignored, what it writes to `output` is kept."""
    weights = Path(arguments["weights"])
    aggregated = arguments["aggregated"]
    function(
        {
            "round": arguments["round"],
            "weights_path": str(weights),
            "weights": LazyWeights(weights),
            "metrics": arguments["metrics"],
            "training_metrics": arguments["training_metrics"],
            "aggregated": values.load(Path(aggregated)) if aggregated else {},
            "output": str(folder / OUT),
        }
    )


CALLS: Mapping[str, Callable[[Function, dict[str, Any], Path], Any]] = {
    "broadcast": broadcast,
    "aggregate": aggregate,
    "finish": finish,
}


class LazyWeights(Mapping[str, Array]):
    """A tensor file as a mapping of names to arrays, each read when it is asked for; BF16 as float32."""

    def __init__(self, path: Path) -> None:
        self._file = TensorFile.open(path, copy_on_write=True)

    def __getitem__(self, name: str) -> Array:
        info = self._file.signature[name]
        return self._file.float_array(name) if info.dtype == "BF16" else self._file.array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.signature)

    def __len__(self) -> int:
        return len(self._file.signature)


def _arrays(path: Path) -> dict[str, Array]:
    """All tensors, mapped copy-on-write: a function that changes them changes nothing but its own view."""
    return dict(LazyWeights(path))


def _shown(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

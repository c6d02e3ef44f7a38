"""Keras models and weights (`.keras`, `.h5`, `.weights.h5`) read without Keras and without running code."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catchment.errors import BadTensors
from catchment.models.hdf5 import (
    Dataset,
    Group,
    child,
    descendant,
    is_group,
    open_hdf5,
    reading,
    text_attribute,
    write_datasets,
)
from catchment.models.keras_names import HOW_TO_SAVE, LayerConfig, variable_paths
from catchment.models.signature import Signature

MAX_CONFIG_BYTES = 64 * 2**20
_COPY_BYTES = 2**20
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def read_keras_archive(source: Path, destination: Path) -> Signature:
    """Write the weights in the `.keras` file `source` to the tensor file `destination`.

    Its configuration is read for the layers' names and never acted on.

    Raises:
        BadTensors: the file is damaged, or its variables' names cannot be told from it.
    """
    try:
        with (
            zipfile.ZipFile(source) as archive,
            tempfile.TemporaryDirectory(dir=destination.parent) as folder,
        ):
            layers = _layer_configs(_config(archive))
            weights = Path(folder) / "weights.h5"
            _extract(archive, weights, source.stat().st_size)
            with open_hdf5(weights) as root:
                return write_datasets(variable_paths(root, layers), weights.stat().st_size, destination)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadTensors(f"no .keras file: the zip archive is damaged ({error})") from None


def read_keras_h5(source: Path, destination: Path) -> Signature:
    """Write the weights in the HDF5 file `source`, a whole model or weights only, to `destination`.

    Raises:
        BadTensors: the file is damaged, or its variables' names cannot be told from it.
    """
    with open_hdf5(source) as root:
        legacy = child(root, "model_weights")
        if is_group(legacy) or _has_names(root, "layer_names"):
            datasets = _legacy_variables(legacy if is_group(legacy) else root)
        else:
            datasets = variable_paths(root, {})
        _refuse_quantised(datasets)
        return write_datasets(datasets, source.stat().st_size, destination)


def _refuse_quantised(datasets: Mapping[str, Dataset]) -> None:
    for path in datasets:
        if path.endswith("_scale") and path.removesuffix("_scale") in datasets:
            raise BadTensors(
                f"'{path.removesuffix('_scale')}' is quantised; save the model before quantising it"
            )


def _config(archive: zipfile.ZipFile) -> Any:
    info = _member(archive, _CONFIG)
    if info.file_size > MAX_CONFIG_BYTES:
        raise BadTensors(f"{_CONFIG} has {info.file_size} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        with archive.open(info) as file:
            return json.loads(file.read(MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadTensors(f"{_CONFIG} is not valid JSON ({error})") from None


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise BadTensors(f"no .keras file of Keras 3: it holds no {name}; {HOW_TO_SAVE}") from None
    if info.flag_bits & 1:
        raise BadTensors(f"{name} is encrypted")
    return info


def _extract(archive: zipfile.ZipFile, path: Path, archive_bytes: int) -> None:
    info = _member(archive, _WEIGHTS)
    if info.compress_size > archive_bytes or info.file_size > 100 * info.compress_size + 2**24:
        raise BadTensors(f"{_WEIGHTS} would be {info.file_size} bytes, packed in {info.compress_size}")
    with archive.open(info) as packed, path.open("wb") as file:
        while chunk := packed.read(_COPY_BYTES):
            file.write(chunk)


def _layer_configs(config: Any) -> dict[str, LayerConfig]:
    """Layer name -> class and configuration, for Keras' own layers anywhere in a model's configuration."""
    found: dict[str, LayerConfig] = {}
    for entry in _entries(config):
        module, kind, details = entry.get("module"), entry["class_name"], entry["config"]
        name = details.get("name")
        if isinstance(name, str) and isinstance(module, str) and module.split(".")[0] == "keras":
            found[name] = (_snake_case(kind), details)
    return found


def _entries(config: Any) -> Iterator[Mapping[str, Any]]:
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str) and isinstance(item.get("config"), dict):
                yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _snake_case(name: str) -> str:
    """A class's name the way that Keras writes it in paths: Conv2DTranspose -> conv2d_transpose."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _legacy_variables(root: Group) -> dict[str, Dataset]:
    """Variables of the old whole-model format, which stores their paths."""
    version = text_attribute(root, "keras_version") or text_attribute(root.parent, "keras_version") or ""
    if not version.startswith("3"):
        raise BadTensors(
            f"written by Keras {version or 'of an unknown version'}, whose variables have other names than "
            f"in Keras 3; {HOW_TO_SAVE}"
        )
    found: dict[str, Dataset] = {}
    for layer in [*_names(root, "layer_names"), "top_level_model_weights"]:
        group = descendant(root, layer)
        for path in _names(group, "weight_names") if is_group(group) else ():
            if path in found:
                raise BadTensors(f"two variables of the model are named '{path}'; name the layers apart")
            found[path] = descendant(group, path)
    return found


def _has_names(group: Group, attribute: str) -> bool:
    with reading():
        return attribute in group.attrs or f"{attribute}0" in group.attrs


def _names(group: Group, attribute: str) -> list[str]:
    """A list of names; Keras splits long ones into attributes with a number at the end."""
    with reading():
        parts = [group.attrs[attribute]] if attribute in group.attrs else []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    names = [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        for part in parts
        for name in part
    ]
    if not all(isinstance(name, str) for name in names):
        raise BadTensors(f"the attribute {attribute} of '{group.name}' is no list of names")
    return names

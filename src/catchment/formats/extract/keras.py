"""Keras: layers from the configuration in an .h5 or .keras file, numbers from its variables' shapes.

The configuration is read and never acted on: no layer is built, and no Lambda is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract import zips
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.keras_layers import Layers
from catchment.formats.extract.result import Extracted, count, shown
from catchment.models import hdf5

MAX_CONFIG_BYTES = 32 * 2**20
MAX_VARIABLES = 200_000
_OPTIMIZER = ("optimizer", "optimizer_weights")


def read(folder: ModelFolder) -> Extracted:
    """What the one *.keras or *.h5 file says."""
    name = folder.one("*.keras", "*.h5", "*.hdf5")
    if name.lower().endswith(".keras"):
        return _archive(folder, name)
    with folder.opened(name) as file, hdf5.open_hdf5(file) as root:
        text = hdf5.text_attribute(root, "model_config")
        version = hdf5.text_attribute(root, "keras_version")
        extras = {"backend": hdf5.text_attribute(root, "backend") or ""}
        stored = hdf5.child(root, "model_weights") if text is not None else root
        weights = stored if hdf5.is_group(stored) else root
        version = version or hdf5.text_attribute(weights, "keras_version") or ""
        parameters = count(_shapes(weights))
    config = None if text is None else _loaded(text.encode("utf-8", "replace"), "model_config")
    return _extracted("H5", config, version, parameters, extras)


def _archive(folder: ModelFolder, name: str) -> Extracted:
    with zips.opened(folder, name) as archive:
        config = _loaded(archive.content("config.json", MAX_CONFIG_BYTES), "config.json")
        metadata = {}
        if "metadata.json" in archive.names:
            metadata = _loaded(archive.content("metadata.json", MAX_CONFIG_BYTES), "metadata.json")
        extras: dict[str, Any] = {"dateSaved": str(metadata.get("date_saved", ""))}
        parameters, weights = None, "model.weights.h5"
        if weights in archive.names and archive.stored_bytes(weights) is not None:
            with archive.opened(weights) as entry, hdf5.open_hdf5(entry) as root:
                parameters = count(_shapes(root))
    return _extracted("Keras", config, str(metadata.get("keras_version", "")), parameters, extras)


def _loaded(content: bytes, what: str) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ExtractionFailed(f"{what} of the Keras model is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise ExtractionFailed(f"{what} of the Keras model is no JSON object")
    return config


def _extracted(
    format_name: str,
    config: dict[str, Any] | None,
    version: str,
    parameters: int | None,
    extras: dict[str, Any],
) -> Extracted:
    absent = [] if version else ["the Keras version: not in the file"]
    absent += (
        [] if parameters is not None else ["parameters: the archive's weights are compressed or not there"]
    )
    if config is None:
        absent.append("inputs, outputs and layers: the file holds weights and no model")
        return Extracted(
            format_name, "Keras", version, parameters=parameters, extras=extras, absent=tuple(absent)
        )
    layers = Layers(config)
    inputs, outputs = layers.inputs(), layers.outputs()
    absent += [] if inputs else ["inputs: the configuration names none, as of a model that was never built"]
    absent += [] if outputs else ["outputs: the configuration names none"]
    for side, tensors in (("input", inputs), ("output", outputs)):
        names = ", ".join(shown(each.name) for each in tensors if each.size is None)
        absent += [f"the size of the {side} {names}: it is not in the file"] if names else []
    return Extracted(
        format_name,
        "Keras",
        version,
        inputs,
        outputs,
        layers.counted(),
        parameters,
        extras={**extras, **layers.described()},
        absent=tuple(absent),
    )


def _shapes(root: hdf5.Group) -> Iterator[tuple[int, ...]]:
    """Shapes of all variables but the optimizer's; links to elsewhere are refused, groups entered once."""
    waiting, seen, found = [(root, True)], {hdf5.address(root)}, 0
    while waiting:
        group, outermost = waiting.pop()
        with hdf5.reading():
            names = list(group)
        for name in names:
            item = None if outermost and name in _OPTIMIZER else hdf5.child(group, name)
            if hdf5.is_group(item) and hdf5.address(item) not in seen:
                seen.add(hdf5.address(item))
                waiting.append((item, False))
            elif hdf5.is_dataset(item):
                found += 1
                yield _shape(item, name)
            if len(seen) + found > MAX_VARIABLES:
                raise ExtractionFailed(f"the file holds more than {MAX_VARIABLES} groups and variables")


def _shape(dataset: hdf5.Dataset, name: str) -> tuple[int, ...]:
    with hdf5.reading():
        # Before the shape is asked for: of a virtual dataset that could open other files.
        if dataset.is_virtual or dataset.external:
            raise ExtractionFailed(f"the values of {shown(name)} lie in another file, which is not read")
        return tuple(int(size) for size in dataset.shape or ())

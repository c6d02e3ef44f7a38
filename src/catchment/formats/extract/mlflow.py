"""MLflow: signature and flavors from the MLmodel file; no loader that it names is imported."""

from __future__ import annotations

import json
from typing import Any

import yaml

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, TensorSpec, shown, sizes

MAX_FILE_BYTES = 2**20
_COLUMNS = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
    "binary": "bytes",
    "datetime": "datetime64",
}
"""mlflow.types.DataType -> numpy's name."""


class _Loader(yaml.SafeLoader):
    """Plain values only, and no aliases, with which a small file can be made huge."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ExtractionFailed("MLmodel refers to a part of itself, which is not read")
        return super().compose_node(parent, index)


def read(folder: ModelFolder) -> Extracted:
    """What the file MLmodel says."""
    model = _loaded(folder.content(folder.one("mlmodel"), MAX_FILE_BYTES))
    flavors = model.get("flavors")
    if not isinstance(flavors, dict) or not flavors:
        raise ExtractionFailed("MLmodel names no flavors, so it is no MLflow model")
    signature = model.get("signature")
    signature = signature if isinstance(signature, dict) else {}
    inputs = _tensors(signature.get("inputs"), "inputs")
    outputs = _tensors(signature.get("outputs"), "outputs")
    absent = ["layers and parameters: they are in the model of the flavor, not in MLmodel"]
    absent += [] if inputs else ["inputs: the model was logged without a signature of them"]
    absent += [] if outputs else ["outputs: the model was logged without a signature of them"]
    sizeless = [each.name for each in (*inputs, *outputs) if each.size is None]
    if sizeless:
        absent.append(f"the size of {', '.join(shown(name) for name in sizeless[:20])}: a column has none")
    return Extracted(
        "MLflow",
        "MLflow",
        str(model.get("mlflow_version") or ""),
        inputs,
        outputs,
        extras=_extras(flavors, signature),
        absent=tuple(absent),
    )


def _loaded(content: bytes) -> dict[str, Any]:
    try:
        model = yaml.load(content, _Loader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExtractionFailed(f"MLmodel is no YAML: {' '.join(str(error).split())}"[:300]) from None
    if not isinstance(model, dict):
        raise ExtractionFailed("MLmodel is no YAML mapping")
    return model


def _extras(flavors: dict[Any, Any], signature: dict[Any, Any]) -> dict[str, Any]:
    """Flavors with the versions that they name."""
    named = {}
    for name, flavor in flavors.items():
        entries = flavor.items() if isinstance(flavor, dict) else ()
        named[str(name)] = {str(key): str(value) for key, value in entries if str(key).endswith("version")}
    params = signature.get("params")
    return {"flavors": named, **({"params": params} if isinstance(params, str) else {})}


def _tensors(text: Any, side: str) -> tuple[TensorSpec, ...]:
    """The columns or tensors of one side, which stand as JSON inside of the YAML."""
    if text is None:
        return ()
    try:
        listed = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise ExtractionFailed(f"the {side} of MLmodel's signature are no JSON") from None
    listed = listed if isinstance(listed, list) else [listed]
    return tuple(_tensor(each, side) for each in listed)


def _tensor(entry: Any, side: str) -> TensorSpec:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise ExtractionFailed(f"the {side} of MLmodel's signature hold {shown(entry)}, which has no type")
    name = str(entry.get("name") or "")
    if entry["type"] != "tensor":
        return TensorSpec(name, None, _COLUMNS.get(str(entry["type"]), str(entry["type"])))
    spec = entry.get("tensor-spec")
    if not isinstance(spec, dict):
        raise ExtractionFailed(f"the tensor {shown(name)} of MLmodel's signature has no tensor-spec")
    return TensorSpec(name, sizes(spec.get("shape"), name), str(spec.get("dtype") or ""))

"""MLServer's `model-settings.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catchment.errors import InvalidField

IMPLEMENTATIONS: Mapping[str, str] = {
    "SKLearn": "mlserver_sklearn.SKLearnModel",
    "XGBoost": "mlserver_xgboost.XGBoostModel",
    "MLflow": "mlserver_mlflow.MLflowRuntime",
    "MLlib": "mlserver_mllib.MLlibModel",
}
"""Of MLServer 1.7; the original named classes of releases before 0.2."""
DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **dict.fromkeys(("string", "object", "bytes", "str"), "BYTES"),
}
"""A signature's dType -> the protocol's datatype, those that MLServer has."""


def model_settings(
    name: str,
    format_name: str,
    uri: str,
    version: str = "",
    *,
    inputs: tuple[Mapping[str, Any], ...] = (),
    outputs: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """The settings of one model, with its tensors where the signature says names and types of all.

    Args:
        name: of the model, in addresses.
        format_name: as `models.formats` spells it.
        uri: the model's file or folder, relative to the settings.
        version: in addresses; empty: none.
        inputs, outputs: the stored signature's tensors.

    Raises:
        InvalidField: MLServer does not serve the format, or a tensor's type is none that it has.
    """
    implementation = IMPLEMENTATIONS.get(format_name)
    if implementation is None:
        raise InvalidField("format", f"MLServer serves {', '.join(IMPLEMENTATIONS)}, not {format_name}")
    parameters = {"uri": uri, **({"version": version} if version else {})}
    told: dict[str, Any] = {"name": name, "implementation": implementation, "parameters": parameters}
    for field, tensors in (("inputs", inputs), ("outputs", outputs)):
        # A model may be served without: of some, the file does not say what goes in.
        if tensors and all(each.get("name") and each.get("dType") for each in tensors):
            told[field] = [_tensor(each, f"signature.{field}[{at}].dType") for at, each in enumerate(tensors)]
    return told


def _tensor(tensor: Mapping[str, Any], field: str) -> dict[str, Any]:
    kind = DATATYPES.get(str(tensor.get("dType")).lower())
    if kind is None:
        raise InvalidField(
            field,
            f"MLServer has no type for {str(tensor.get('dType'))[:40]!r}; it has {', '.join(DATATYPES)}",
        )
    return {"name": tensor["name"], "datatype": kind, "shape": list(tensor.get("size") or ())}

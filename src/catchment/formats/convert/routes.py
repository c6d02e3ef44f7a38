"""Which backends can make which format of which, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from catchment.errors import ConversionFailed, InvalidField
from catchment.formats.convert.backend import BACKENDS, BASE


@dataclass(frozen=True)
class Route:
    """One pair of formats.

    Attributes:
        source, target: as configs spell them.
        backends: in order; the next one when an operator is unsupported, or an environment cannot be had.
        references: backends that can run the source to compare with; the first that can be had.
        runtime: backend that runs the result.
        keeps: whether all numbers must be exactly the same.
        note: for the table in the documentation.
    """

    source: str
    target: str
    backends: tuple[str, ...]
    references: tuple[str, ...]
    runtime: str = BASE
    keeps: bool = False
    note: str = ""


_TF, _TORCH, _SK = "tensorflow", "torch", "sklearn"

ROUTES = {
    (each.source, each.target): each
    for each in (
        Route("H5", "SavedModel", (_TF,), (_TF,), _TF),
        Route("Keras", "SavedModel", (_TF,), (_TF,), _TF),
        Route("H5", "ONNX", (_TF,), (_TF,)),
        Route("Keras", "ONNX", (_TF,), (_TF,)),
        Route("SavedModel", "ONNX", (_TF,), (_TF,)),
        Route("GraphDef", "ONNX", (_TF,), (_TF,)),
        Route("TorchScript", "ONNX", (_TORCH,), (_TORCH,), note="needs shapes: the file has none"),
        Route("ExportedProgram", "ONNX", (_TORCH,), (_TORCH,)),
        Route("SKLearn", "ONNX", (_SK,), (_SK,), note=".joblib only with `allow_pickle: true`"),
        Route("XGBoost", "ONNX", (_SK,), (_SK,)),
        Route("LightGBM", "ONNX", (_SK,), (_SK,)),
        Route("ONNX", "ONNX", (BASE,), (BASE,), note="`operation`: slim, opset or int8 (lossy)"),
        Route("StateDict", "Safetensors", (BASE,), (_TORCH, BASE), keeps=True),
        Route("MXNetParams", "ONNX", (BASE, "mxnet"), ("mxnet",), note="needs shapes: the file has none"),
        Route("CaffeModel", "ONNX", (BASE, "mmdnn"), ("opencv", BASE)),
        Route("CaffeModel", "NetDef", (BASE,), ("opencv", BASE)),
        Route(
            "NetDef",
            "ONNX",
            (BASE,),
            (BASE,),
            note="needs shapes; compared with our interpreter of the graph",
        ),
    )
}

OPERATIONS = ("slim", "opset", "int8")
"""On ONNX; the first one where none is asked for."""
_EVERYWHERE = ("backend",)
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "ONNX": ("operation", "opset"),
    "TorchScript": ("opset",),
    "ExportedProgram": ("opset",),
    "H5": ("opset",),
    "Keras": ("opset",),
    "GraphDef": ("opset",),
    "SavedModel": ("opset", "signature"),
    "SKLearn": ("allow_pickle",),
}
_REASONS = {
    ("StateDict", "ONNX"): "a state dict holds tensors and no graph; save the model with torch.export.save",
    ("Safetensors", "ONNX"): "safetensors hold tensors and no graph",
}


def find_route(source: str, target: str) -> Route:
    """The route between two formats, however their letters are cased (`MXNETParams`).

    Raises:
        ConversionFailed: there is none; the message says what the source can become.
    """
    wanted = (source.lower(), target.lower())
    for (start, end), route in ROUTES.items():
        if (start.lower(), end.lower()) == wanted:
            return route
    ends = [end for start, end in ROUTES if start.lower() == wanted[0]]
    reason = next((why for pair, why in _REASONS.items() if tuple(map(str.lower, pair)) == wanted), "")
    can = f"{source} can become {', '.join(ends)}" if ends else f"{source} can become nothing"
    raise ConversionFailed(f"{source} cannot become {target}: {reason or can}")


def checked_options(route: Route, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a conversion, none of which the route does not know.

    Raises:
        InvalidField: one is not known, or of the wrong kind.
    """
    known = (*_OPTIONS.get(route.source, ()), *_EVERYWHERE)
    for name, value in options.items():
        if name not in known:
            raise InvalidField(
                name, f"is no option of {route.source} to {route.target}; known: {', '.join(known)}"
            )
        if name == "opset" and (
            isinstance(value, bool) or not isinstance(value, int) or not 7 <= value <= 25
        ):
            raise InvalidField(name, "must be a whole number from 7 to 25")
        if name == "allow_pickle" and not isinstance(value, bool):
            raise InvalidField(name, "must be true or false")
        if name == "operation" and value not in OPERATIONS:
            raise InvalidField(name, f"must be one of {', '.join(OPERATIONS)}")
        if name == "signature" and not isinstance(value, str):
            raise InvalidField(name, "must be a text")
        if name == "backend" and value not in route.backends:
            raise InvalidField(name, f"must be one that converts this: {', '.join(route.backends)}")
    return dict(options)


def narrowed(route: Route, options: Mapping[str, Any]) -> Route:
    """The route with the one backend that the options ask for, if they do."""
    wanted = options.get("backend")
    return replace(route, backends=(wanted,)) if wanted else route


def is_lossy(route: Route, options: Mapping[str, Any]) -> bool:
    """Whether the conversion changes numbers by design."""
    return route.source == "ONNX" and options.get("operation") == "int8"


def executes_code(route: Route, options: Mapping[str, Any]) -> bool:
    """Whether opening the source executes its code by design: only the sandbox stands between then."""
    return route.source == "SKLearn" and options.get("allow_pickle") is True


def formats_of(backend: str) -> list[tuple[str, str]]:
    """The pairs that a backend converts."""
    if backend not in BACKENDS:
        raise ConversionFailed(f"there is no backend {backend!r}")
    return [pair for pair, route in ROUTES.items() if backend in route.backends]

"""The layers of a Keras model as its configuration lists them, of Keras 2 and 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import TensorSpec, sizes

MAX_LAYERS = 100_000

_SAME_SIZE = frozenset(
    {"Activation", "Softmax", "ReLU", "LeakyReLU", "ELU", "PReLU", "Dropout", "BatchNormalization"}
    | {"LayerNormalization", "GaussianNoise", "GaussianDropout", "SpatialDropout2D", "Identity"}
)
"""Layers whose output has their input's size."""
_FLOATS = _SAME_SIZE | {"Dense", "Conv1D", "Conv2D", "Conv3D", "LSTM", "GRU", "Add", "Flatten", "Concatenate"}
_FLOATS |= {"GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Reshape", "Multiply"}
"""Layers whose output has the dtype that they compute in."""


class Layers:
    """A model's configuration: `class_name`, and `config` with its layers."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._class = str(model.get("class_name", ""))
        config = model.get("config")
        # Sequential models of early Keras 2 are a bare list.
        config = {"layers": config} if isinstance(config, list) else config
        if not isinstance(config, dict):
            raise ExtractionFailed("the model's configuration lists no layers")
        self._config: dict[str, Any] = config
        listed = self._config.get("layers")
        self._layers = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    def counted(self) -> Counter[str]:
        """How many layers of each class, those of models inside the model included."""
        return Counter(str(layer.get("class_name", "")) for layer in self._all())

    def described(self) -> dict[str, Any]:
        """Class and name of the model, and which of its layers are code."""
        lambdas = [_name(layer) for layer in self._all() if layer.get("class_name") == "Lambda"]
        custom = {
            str(layer.get("registered_name"))
            for layer in self._all()
            if layer.get("module") is None
            and layer.get("registered_name") not in (None, layer.get("class_name"))
        }
        return {
            "class": self._class,
            "model": str(self._config.get("name", "")),
            **({"lambdaLayers": lambdas} if lambdas else {}),
            **({"customLayers": sorted(custom)} if custom else {}),
        }

    def inputs(self) -> tuple[TensorSpec, ...]:
        """In the order in which the model is called with them."""
        if "input_layers" in self._config:
            layers = [self._named(name) for name in _references(self._config["input_layers"])]
            return tuple(_input(layer, _name(layer)) for layer in layers if layer is not None)
        if not self._layers:
            return ()
        first = self._layers[0]
        if first.get("class_name") == "InputLayer":
            return (_input(first, _name(first)),)
        # Keras 2 makes an input by itself, and names it so.
        spec = _input(first, f"{_name(first)}_input")
        return () if spec.size is None else (spec,)

    def outputs(self) -> tuple[TensorSpec, ...]:
        """In the order in which the model returns them."""
        if "output_layers" in self._config:
            layers = [self._named(name) for name in _references(self._config["output_layers"])]
        else:
            layers = [self._layers[-1]] if self._layers else []
        return tuple(_output(layer) for layer in layers if layer is not None)

    def _named(self, name: str) -> dict[str, Any] | None:
        return next((layer for layer in self._layers if _name(layer) == name), None)

    def _all(self) -> Iterator[dict[str, Any]]:
        waiting, number = list(reversed(self._layers)), 0
        while waiting:
            layer = waiting.pop()
            number += 1
            if number > MAX_LAYERS:
                raise ExtractionFailed(f"the model has more than {MAX_LAYERS} layers")
            yield layer
            config = layer.get("config")
            inner = config.get("layers") if isinstance(config, dict) else None
            waiting += [each for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []


def _name(layer: dict[str, Any]) -> str:
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(layer.get("name") or inner or "")


def _references(value: Any) -> list[str]:
    """Layer names in `["x", 0, 0]`, `[["x", 0, 0], ...]` or a dict of such."""
    if isinstance(value, dict):
        return [name for each in value.values() for name in _references(each)]
    if not isinstance(value, list) or not value:
        return []
    if isinstance(value[0], str):
        return [value[0]]
    return [name for each in value[:MAX_LAYERS] if isinstance(each, list) for name in _references_flat(each)]


def _references_flat(value: list[Any]) -> list[str]:
    return [value[0]] if value and isinstance(value[0], str) else []


def _input(layer: dict[str, Any], name: str) -> TensorSpec:
    config = layer.get("config")
    config = config if isinstance(config, dict) else {}
    shape = next(
        (config[key] for key in ("batch_shape", "batch_input_shape") if config.get(key) is not None), None
    )
    return TensorSpec(
        name, None if shape is None else sizes(shape, name), _dtype(config.get("dtype"), variable=True)
    )


def _output(layer: dict[str, Any]) -> TensorSpec:
    config, kind, name = layer.get("config"), layer.get("class_name"), _name(layer)
    config = config if isinstance(config, dict) else {}
    dtype = _dtype(config.get("dtype"), variable=False) if kind in _FLOATS else ""
    # Keras 3 stores what each layer was built for.
    built = layer.get("build_config")
    shape = built.get("input_shape") if isinstance(built, dict) else None
    if not isinstance(shape, list) or not shape:
        return TensorSpec(name, None, dtype)
    size = sizes(shape, name)
    if kind == "Dense":
        return TensorSpec(name, (*size[:-1], *sizes([config.get("units")], name)), dtype)
    return TensorSpec(name, size if kind in _SAME_SIZE else None, dtype)


def _dtype(value: Any, *, variable: bool) -> str:
    """A dtype, or what a policy such as mixed_float16 computes in."""
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(value, str):
        return ""
    return value if variable else value.removeprefix("mixed_")

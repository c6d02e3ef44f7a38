"""Names of a Keras model's variables, from a weights file that numbers them.

Keras 3 stores the variables of a layer as `<path of attributes>/vars/0`, `/1`, ..., and the layer's name
beside them, but not the variables' own names. For Keras' own layers the number says which variable it is;
the path of a variable is then the names of the layers around it and its own: `sequential/dense/kernel`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from catchment.errors import BadTensors
from catchment.models.hdf5 import Dataset, Group, address, child, is_dataset, is_group, text_attribute

HOW_TO_SAVE = (
    "in a script that has the model, write its weights with "
    "catchment.sdk.save_weights(model, 'init.safetensors') and give that file"
)
_MAX_DEPTH = 32

_KERNEL_BIAS = ("kernel", "bias")
_CELL = ("kernel", "recurrent_kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_SCALE_CENTER = ("gamma", "beta")

# Class, as Keras writes it in a path, -> its variables in the order of their numbers; the last may be absent.
_VARIABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dense", "einsum_dense", "depthwise_conv1d", "depthwise_conv2d"), _KERNEL_BIAS),
    **{f"conv{n}d{kind}": _KERNEL_BIAS for n in (1, 2, 3) for kind in ("", "_transpose")},
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), _SEPARABLE),
    **dict.fromkeys(("lstm_cell", "gru_cell", "simple_rnn_cell", "conv_lstm_cell"), _CELL),
    "embedding": ("embeddings",),
    "rms_normalization": ("scale",),
    "normalization": ("mean", "variance", "count"),
    "p_re_lu": ("alpha",),
    "additive_attention": ("scale",),
}
_OPTIONAL_LAST = (_KERNEL_BIAS, _CELL, _SEPARABLE)

# Attribute under which a composite layer keeps a part -> the part's class.
_PARTS: dict[str, str] = {
    "cell": "lstm_cell",
    **{
        f"{private}{role}_dense": "einsum_dense"
        for private in ("", "_")
        for role in ("query", "key", "value", "output")
    },
}

LayerConfig = tuple[str, Mapping[str, Any]]
"""Class of a layer, as Keras writes it in a path, and its configuration."""


@dataclass(frozen=True)
class _Walk:
    """What is known of the layers by name, and the addresses of the groups that were visited."""

    layers: Mapping[str, LayerConfig]
    seen: set[int] = field(default_factory=set)

    def visit(self, group: Group) -> None:
        """Keras stores a shared layer once; a file that links a group twice could send us round for ever."""
        if address(group) in self.seen:
            raise BadTensors(f"'{group.name}' is a second link to a group, which is not followed")
        self.seen.add(address(group))


def variable_paths(root: Group, layers: Mapping[str, LayerConfig]) -> dict[str, Dataset]:
    """Variable path -> dataset, for a Sequential or Functional model of Keras' own layers.

    Args:
        root: the weights file.
        layers: layer name -> class and configuration, where they are known (`.keras`).

    Raises:
        BadTensors: the file holds a layer whose variables have no known names; says how to save it instead.
    """
    top = child(root, "layers")
    if not is_group(top):
        raise BadTensors(
            "the file does not tell the variables' names: only Sequential and Functional models do; "
            f"{HOW_TO_SAVE}"
        )
    paths: dict[str, Dataset] = {}
    for path, dataset in _model(root, "", _Walk(layers), depth=0):
        if path in paths:
            raise BadTensors(f"two variables of the model are named '{path}'; name the layers apart")
        paths[path] = dataset
    return paths


def _model(group: Group, key: str, walk: _Walk, depth: int) -> Iterator[tuple[str, Dataset]]:
    """Variables of a model: a Sequential adds its name to their paths, a Functional model does not."""
    if _numbered(group):
        raise BadTensors(
            f"the model has variables of its own, whose names the file does not tell; {HOW_TO_SAVE}"
        )
    unknown = [
        key for key in group if key not in ("layers", "vars", "optimizer") and _has_variables(group, key)
    ]
    if unknown:
        raise BadTensors(
            f"the model keeps layers under '{unknown[0]}', which the file does not name; {HOW_TO_SAVE}"
        )
    members = child(group, "layers")
    # Keras leaves a Sequential's input layer out of the file, never that of a Functional model.
    functional = _class_of(key) == "functional" or any(
        _class_of(member) == "input_layer" for member in members
    )
    scope = "" if functional else f"{_layer_name(group)}/"
    for member in members:
        for path, dataset in _layer(child(members, member), member, walk, depth + 1):
            yield scope + path, dataset


def _layer(group: Group, key: str, walk: _Walk, depth: int) -> Iterator[tuple[str, Dataset]]:
    if depth > _MAX_DEPTH:
        raise BadTensors(f"the file nests layers more than {_MAX_DEPTH} deep")
    if not is_group(group):
        raise BadTensors(f"'{key}' is no layer")
    walk.visit(group)
    if is_group(child(group, "layers")):
        yield from _model(group, key, walk, depth)
        return
    numbered = _numbered(group)
    scope = ""
    if is_group(child(group, "vars")):
        name = _layer_name(group)
        scope = f"{name}/"
        if numbered:
            names = _variable_names(name, key, len(numbered), walk.layers)
            yield from (
                (scope + variable, dataset) for variable, dataset in zip(names, numbered, strict=True)
            )
    for part in group:
        if part != "vars":
            for path, dataset in _layer(child(group, part), part, walk, depth + 1):
                yield scope + path, dataset


def _layer_name(group: Group) -> str:
    variables = child(group, "vars")
    name = text_attribute(variables, "name") if is_group(variables) else None
    if not name:
        raise BadTensors(f"the Keras that wrote the file did not store the layers' names; {HOW_TO_SAVE}")
    return name


def _numbered(group: Group) -> list[Dataset]:
    """A layer's datasets in the order of their numbers."""
    variables = child(group, "vars")
    if not is_group(variables):
        return []
    datasets = [child(variables, str(number)) for number in range(len(variables))]
    if not all(is_dataset(dataset) for dataset in datasets):
        raise BadTensors(f"'{variables.name}' holds something else than numbered variables")
    return datasets


def _has_variables(group: Group, key: str) -> bool:
    stack, seen = [child(group, key)], set()
    while stack:
        item = stack.pop()
        if is_dataset(item):
            return True
        if is_group(item) and address(item) not in seen:
            seen.add(address(item))
            stack.extend(child(item, name) for name in item)
    return False


def _variable_names(layer: str, key: str, number: int, layers: Mapping[str, LayerConfig]) -> tuple[str, ...]:
    """Names of a layer's `number` variables in the order of their numbers."""
    kind, config = layers.get(layer, (None, {}))
    kind = kind or _known_class(key) or _PARTS.get(key) or _known_class(layer)
    names = _names_of_class(kind, number, config) if kind else None
    if names is None:
        raise BadTensors(
            f"the file does not tell the names of the {number} variables of layer '{layer}'; {HOW_TO_SAVE}"
        )
    return names


def _class_of(key: str) -> str:
    """The class in a generated name: dense_12 -> dense."""
    return re.sub(r"_\d+$", "", key)


def _known_class(key: str) -> str | None:
    kind = _class_of(key)
    return kind if kind in _VARIABLES or kind in _NORMALIZATIONS else None


_NORMALIZATIONS: dict[str, tuple[str, ...]] = {
    "batch_normalization": ("moving_mean", "moving_variance"),
    "layer_normalization": (),
    "group_normalization": (),
}


def _names_of_class(kind: str, number: int, config: Mapping[str, Any]) -> tuple[str, ...] | None:
    if kind in _NORMALIZATIONS:
        always = _NORMALIZATIONS[kind]
        wanted = [bool(config.get("scale", True)), bool(config.get("center", True))]
        if number == len(always):
            wanted = [False, False]
        elif number == len(always) + 1 and not config:
            return None  # gamma or beta: only the configuration tells
        names = (*(name for name, there in zip(_SCALE_CENTER, wanted, strict=True) if there), *always)
        return names if len(names) == number else None
    names = _VARIABLES.get(kind, ())
    if number == len(names) - 1 and names in _OPTIONAL_LAST:
        return names[:-1]
    return names if number == len(names) else None

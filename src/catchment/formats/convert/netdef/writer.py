"""Writing NetDef files (caffe2.proto)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from catchment.formats.protobuf_writer import content, integer, real, single_integers, single_reals

Value = int | float | str | Sequence[int] | np.ndarray


def argument(name: str, value: Value) -> bytes:
    """An Argument; arrays are written as floats, other sequences as ints."""
    head = content(1, name)
    if isinstance(value, np.ndarray):
        return head + single_reals(5, value)
    if isinstance(value, str):
        return head + content(4, value)
    if isinstance(value, float):
        return head + real(2, value)
    return head + (integer(3, value) if isinstance(value, int) else single_integers(6, value))


def operator(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **arguments: Value
) -> bytes:
    """An OperatorDef."""
    parts = [content(1, each) for each in inputs] + [content(2, each) for each in outputs]
    parts += [content(3, name)] if name else []
    parts += [content(4, kind), *(content(5, argument(key, value)) for key, value in arguments.items())]
    return b"".join(parts)


@dataclass
class NetWriter:
    """Both networks of a model under construction."""

    name: str
    operators: list[bytes] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **arguments: Value
    ) -> None:
        """Add an operator to the network."""
        self.operators.append(operator(kind, inputs, outputs, name, **arguments))
        self.kinds.append(kind)

    def weight(self, name: str, values: np.ndarray) -> str:
        """A blob that the init net fills; its name."""
        self.weights[name] = values
        return name

    def save(
        self, folder: Path, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]
    ) -> tuple[str, str]:
        """Write init_net.pb and predict_net.pb; their names."""
        fills = [
            operator("GivenTensorFill", [], [name], shape=[int(dim) for dim in values.shape], values=values)
            for name, values in self.weights.items()
        ]
        external = [*inputs, *self.weights]
        _write(folder / "init_net.pb", f"{self.name}_init", fills, [], list(self.weights))
        _write(folder / "predict_net.pb", self.name, self.operators, external, outputs)
        return "init_net.pb", "predict_net.pb"


def _write(
    path: Path, name: str, operators: Sequence[bytes], inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    with path.open("wb") as file:
        file.write(content(1, name))
        for each in operators:
            file.write(content(2, each))
        for number, names in ((7, inputs), (8, outputs)):
            file.writelines(content(number, each) for each in names)

"""NetDef of Caffe2: operators of predict_net.pb, and how many numbers init_net.pb fills in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from catchment.errors import ExtractionFailed
from catchment.formats.extract.folder import ModelFolder
from catchment.formats.extract.result import Extracted, count, sizes
from catchment.formats.protobuf import Message, message, numbers, text

_MAX_NAMES = 100_000


@dataclass
class _Net:
    name: str = ""
    layers: Counter[str] = field(default_factory=Counter)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)


def read(folder: ModelFolder) -> Extracted:
    """The two files of one net."""
    nets = []
    for name in ("init_net.pb", "predict_net.pb"):
        with folder.mapped(folder.one(name)) as data:
            nets.append(_net(Message(data), fills=name == "init_net.pb"))
    init, predict = nets
    if not predict.layers:
        raise ExtractionFailed("predict_net.pb is no NetDef: it has no operators")
    filled = {*init.made, *init.outputs}
    arguments = [name for name in predict.inputs if name not in filled]
    return Extracted(
        "NetDef",
        "Caffe2",
        layers=predict.layers,
        parameters=count(init.shapes),
        extras={"net": predict.name, "arguments": arguments, "results": predict.outputs},
        absent=(
            "the sizes and dtypes of the inputs: a NetDef does not hold them, they must be given",
            "the sizes and dtypes of the outputs: a NetDef does not hold them",
            "the Caffe2 version: a NetDef does not hold it",
        ),
    )


def _net(span: Message, *, fills: bool) -> _Net:
    net = _Net()
    for number, value in span:
        if number == 1:
            net.name = text(value)
        elif number == 2:
            _operator(message(value), net, fills=fills)
        elif number == 7:
            net.inputs.append(text(value))
        elif number == 8:
            net.outputs.append(text(value))
        if max(len(net.inputs), len(net.outputs), len(net.made)) > _MAX_NAMES:
            raise ExtractionFailed(f"the net names more than {_MAX_NAMES} blobs")
    return net


def _operator(span: Message, net: _Net, *, fills: bool) -> None:
    kind = ""
    shape: tuple[int, ...] = ()
    for number, value in span:
        if number == 2:
            net.made.append(text(value))
        elif number == 4:
            kind = text(value)
        elif number == 5 and fills:
            shape = _shape(message(value)) or shape
    net.layers[kind] += 1
    if fills and kind.endswith("Fill"):
        net.shapes.append(shape)


def _shape(argument: Message) -> tuple[int, ...] | None:
    """The argument's numbers when its name is `shape`; others, values above all, are left at their name."""
    dims: list[int] = []
    for number, value in argument:
        if number == 1 and text(value) != "shape":
            return None
        if number == 6:
            dims += numbers(value)
            sizes(dims, "a fill")
    return sizes(dims, "a fill")

"""A NetDef model: the operators of its network, and the weights that its other network makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catchment.errors import ConversionFailed
from catchment.formats.convert.files import only_file
from catchment.formats.convert.netdef.arguments import Arguments
from catchment.formats.convert.netdef.fills import FILLS, NOTHING, fill
from catchment.formats.convert.steps import refuse_unsupported, step
from catchment.formats.protobuf import Broken, Message, exact_text, mapped, message

# Field numbers of caffe2.proto.
_NET_NAME, _NET_OP, _EXTERNAL_INPUT, _EXTERNAL_OUTPUT = 1, 2, 7, 8
_OP_INPUT, _OP_OUTPUT, _OP_NAME, _OP_TYPE, _OP_ARG = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Operator:
    """One operator; inputs and outputs are names of blobs."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Arguments


@dataclass(frozen=True)
class Net:
    """One NetDef message."""

    name: str
    operators: tuple[Operator, ...]
    external_inputs: tuple[str, ...]
    external_outputs: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """Both networks, the first one run.

    Attributes:
        net: the network.
        weights: what the init net makes.
        inputs: blobs that neither net makes, in the order of the network's list.
        outputs: what the network names so; without any, blobs that nobody reads.
    """

    net: Net
    weights: dict[str, np.ndarray]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_model(folder: Path, given: tuple[str, ...] = ()) -> Model:
    """The model of a folder with init_net.pb and predict_net.pb.

    Args:
        folder: holds one of each; a prefix in front of these names does no harm.
        given: blobs that are inputs even if the init net makes something for them, as some exporters do.

    Raises:
        ConversionFailed: a file is missing or broken, the init net draws random numbers, or an operator reads
            what a later one makes.
    """
    start, net = (read_net(only_file(folder, f"*{name}_net.pb")) for name in ("init", "predict"))
    weights = initial(start)
    for name in given:
        weights.pop(name, None)
    inputs, unread = _walk(net, set(weights))
    return Model(net, weights, inputs, net.external_outputs or unread)


def read_net(path: Path) -> Net:
    """One file.

    Raises:
        ConversionFailed: it is no NetDef message.
    """
    try:
        found = list(Message(mapped(path)))
        names = [exact_text(value) for number, value in found if number == _NET_NAME]
        operators = [_operator(message(value)) for number, value in found if number == _NET_OP]
        ends = [
            tuple(exact_text(value) for number, value in found if number == wanted)
            for wanted in (_EXTERNAL_INPUT, _EXTERNAL_OUTPUT)
        ]
    except Broken as problem:
        raise ConversionFailed(f"{path.name} is no NetDef: {problem}") from None
    return Net(names[-1] if names else "", tuple(operators), *ends)


def _operator(data: Message) -> Operator:
    texts: dict[int, list[str]] = {_OP_INPUT: [], _OP_OUTPUT: [], _OP_NAME: [""], _OP_TYPE: [""]}
    arguments = []
    for number, value in data:
        if number in texts:
            texts[number].append(exact_text(value))
        elif number == _OP_ARG:
            arguments.append(message(value))
    return Operator(
        texts[_OP_TYPE][-1],
        texts[_OP_NAME][-1],
        tuple(texts[_OP_INPUT]),
        tuple(texts[_OP_OUTPUT]),
        Arguments(arguments),
    )


def initial(net: Net) -> dict[str, np.ndarray]:
    """What an init net makes.

    Raises:
        ConversionFailed: an operator is no filling of given values.
    """
    refuse_unsupported([(place(op), op.type) for op in net.operators], {*FILLS, *NOTHING}, "init operator")
    found: dict[str, np.ndarray] = {}
    for op in net.operators:
        if op.type not in NOTHING:
            with step("init operator", place(op), op.type):
                found[op.outputs[0]] = fill(op.type, op.arguments, op.outputs[0])
    return found


def place(op: Operator) -> str:
    """What an operator is called in messages: its name, else its first output."""
    return op.name or (op.outputs[0] if op.outputs else "(no output)")


def _walk(net: Net, made: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The network's inputs, and the blobs that nobody reads."""
    inputs: dict[str, None] = {}
    unread: dict[str, None] = {}
    later = {name for op in net.operators for name in op.outputs} - set(net.external_inputs)
    for op in net.operators:
        for name in op.inputs:
            if name not in made and name in later:
                raise ConversionFailed(
                    f"operator '{place(op)}' ({op.type}) reads '{name}', which no operator before it makes; "
                    "a network must not form a circle"
                )
            if name not in made:
                inputs[name] = None
            unread.pop(name, None)
        made.update(op.outputs)
        unread.update(dict.fromkeys(op.outputs))
    lost = [name for name in net.external_outputs if name not in made and name not in inputs]
    if lost:
        raise ConversionFailed(f"no operator makes the output {', '.join(lost)}")
    return tuple(inputs), tuple(unread)

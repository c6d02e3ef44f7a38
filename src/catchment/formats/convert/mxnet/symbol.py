"""MXNet's symbol.json: nodes in the order of computation, and which of their results are the outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catchment.errors import ConversionFailed
from catchment.formats.convert.files import only_file, read_text
from catchment.formats.convert.mxnet.attributes import Attributes

Entry = tuple[int, int]
"""Which result of which node."""

LABELLED = {
    "LinearRegressionOutput",
    "LogisticRegressionOutput",
    "MAERegressionOutput",
    "Softmax",
    "SoftmaxOutput",
    "SVMOutput",
}
"""Their second input is the label, which inference does not need."""

_AUXILIARY = ("moving_mean", "moving_var")


@dataclass(frozen=True)
class Node:
    """An operator, or with the operator `null` a variable."""

    op: str
    name: str
    attributes: Attributes
    inputs: tuple[Entry, ...]


@dataclass(frozen=True)
class Symbol:
    """A network; `needed` are the nodes that the outputs depend on, in order."""

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    needed: tuple[int, ...]


def read_symbol(folder: Path) -> Symbol:
    """The symbol of a folder with one *symbol.json.

    Raises:
        ConversionFailed: the file is missing, is none of MXNet's, or its graph has a circle.
    """
    path = only_file(folder, "*symbol.json")
    try:
        drawing = json.loads(read_text(path))
        nodes = [_node(each) for each in drawing["nodes"]]
        heads = tuple(_entry(each) for each in drawing["heads"])
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
        raise ConversionFailed(f"{path.name} is no symbol file of MXNet: {problem!r}") from None
    nodes = _with_auxiliaries(nodes)
    for at, node in enumerate(nodes[: len(drawing["nodes"])]):
        if any(not (0 <= source < at or source >= len(drawing["nodes"])) for source, _ in node.inputs):
            raise ConversionFailed(
                f"{path.name}: the node '{node.name}' reads one behind it; graphs have no circles"
            )
    if not heads or any(not 0 <= source < len(nodes) or index < 0 for source, index in heads):
        raise ConversionFailed(f"{path.name}: its heads name no nodes")
    return Symbol(tuple(nodes), heads, _needed(nodes, heads))


def _node(found: Mapping[str, Any]) -> Node:
    """Attributes are called param, attr or attrs, by version."""
    texts = {**(found.get("param") or {}), **(found.get("attr") or {}), **(found.get("attrs") or {})}
    attributes = Attributes({str(key): str(value) for key, value in texts.items()})
    op, name, inputs = found["op"], found["name"], [_entry(each) for each in found["inputs"]]
    if not isinstance(op, str) or not isinstance(name, str):
        raise TypeError("op and name are texts")
    return Node(op, name, attributes, tuple(inputs[:1] if op in LABELLED else inputs))


def _entry(found: list[int]) -> Entry:
    node, index = int(found[0]), int(found[1]) if len(found) > 1 else 0
    return node, index


def _with_auxiliaries(nodes: list[Node]) -> list[Node]:
    """Files of before version 0.9 do not list the statistics among the inputs of BatchNorm."""
    found = list(nodes)
    for at, node in enumerate(nodes):
        if node.op in {"BatchNorm", "BatchNorm_v1"} and len(node.inputs) == 3:
            added = [Node("null", f"{node.name}_{each}", Attributes({}), ()) for each in _AUXILIARY]
            entries = tuple((len(found) + index, 0) for index in range(2))
            found[at] = Node(node.op, node.name, node.attributes, node.inputs + entries)
            found += added
    return found


def _needed(nodes: list[Node], heads: tuple[Entry, ...]) -> tuple[int, ...]:
    wanted = {source for source, _ in heads}
    pending = list(wanted)
    while pending:
        for source, _ in nodes[pending.pop()].inputs:
            if source not in wanted:
                wanted.add(source)
                pending.append(source)
    variables = [at for at in sorted(wanted) if nodes[at].op == "null"]
    return (*variables, *(at for at in sorted(wanted) if nodes[at].op != "null"))

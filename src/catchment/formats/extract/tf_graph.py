"""TensorFlow's GraphDef: nodes by name, where functions are read when they are reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from catchment.errors import ExtractionFailed
from catchment.formats.extract import dtypes
from catchment.formats.extract.result import TensorSpec, count, shown, sizes
from catchment.formats.protobuf import Message, message, pair, signed, text

_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_FLOATS = ("float32", "float64", "float16", "bfloat16")


class Node:
    """One operation of a graph or function.

    Attributes:
        name, op: of it.
        inputs: names of nodes, in the file's spelling: `^name` and `name:1` occur.
    """

    __slots__ = ("_attributes", "inputs", "name", "op")

    def __init__(self, span: Message) -> None:
        self.name = self.op = ""
        self.inputs: list[str] = []
        self._attributes: list[Message] = []
        for number, value in span:
            if number == 1:
                self.name = text(value)
            elif number == 2:
                self.op = text(value)
            elif number == 3:
                self.inputs.append(text(value))
            elif number == 5:
                self._attributes.append(message(value))

    def attribute(self, name: str) -> Message | None:
        """The AttrValue of this name."""
        for entry in self._attributes:
            key, value = pair(entry)
            if key == name:
                return value
        return None

    def functions(self) -> list[str]:
        """Names of the functions that its attributes call."""
        values = (pair(entry)[1] for entry in self._attributes)
        return [name for value in values if value is not None for name in _called(value)]

    def shape(self, attribute: str = "shape") -> tuple[int, ...] | None:
        """The shape in an attribute; None where it is not there or its rank is open."""
        value = self.attribute(attribute)
        found = next((item for number, item in value if number == 7), None) if value is not None else None
        return None if found is None else shape_of(message(found), self.name)

    def dtype(self, attribute: str = "dtype") -> str:
        """The type in an attribute, by numpy's name; "" where it is not there."""
        value = self.attribute(attribute)
        code = next((item for number, item in value if number == 6), None) if value is not None else None
        return "" if code is None else dtype_of(signed(code))


class Graph:
    """A GraphDef with its library of functions.

    Attributes:
        nodes: of the graph itself, in its order.
        producer: version number of the format of who wrote it, which is no release's; 0: not told.
    """

    def __init__(self, span: Message) -> None:
        self.nodes: dict[str, Node] = {}
        self._functions: dict[str, Message] = {}
        self.producer = 0
        for number, value in span:
            if number == 1:
                node = Node(message(value))
                self.nodes[node.name] = node
            elif number == 2:
                self._add_library(message(value))
            elif number == 4:
                self.producer = next((signed(item) for part, item in message(value) if part == 1), 0)

    def _add_library(self, library: Message) -> None:
        for number, value in library:
            if number == 1:
                function = message(value)
                self._functions[_function_name(function)] = function

    def reached(self, tensors: Iterable[str]) -> list[Node]:
        """The nodes that the tensors are computed from, each once; cycles end where they began."""
        waiting, seen = [node_name(tensor) for tensor in tensors], set()
        found = []
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            node = self.nodes.get(name)
            if node is None:
                raise ExtractionFailed(f"the graph refers to a node {shown(name)} that it does not hold")
            found.append(node)
            waiting += [node_name(each) for each in node.inputs]
        return found

    def layers(self, nodes: Iterable[Node]) -> Counter[str]:
        """Operations of these nodes and of all functions that they call, each function once."""
        layers: Counter[str] = Counter()
        waiting, seen = list(nodes), set()
        while waiting:
            node = waiting.pop()
            layers[node.op] += 1
            # In old graphs the function's name is the operation; newer ones call it by an attribute.
            for name in (*node.functions(), node.op):
                if name in self._functions and name not in seen:
                    seen.add(name)
                    body = self._functions[name]
                    waiting += [Node(message(value)) for number, value in body if number == 3]
        return layers


def node_name(tensor: str) -> str:
    """The node that a tensor's name belongs to: `^name` and `name:1` are of `name`."""
    return tensor.lstrip("^").partition(":")[0]


def dtype_of(code: int) -> str:
    """TensorFlow's code of a type as numpy's name."""
    return dtypes.named(dtypes.TENSORFLOW, code - 100 if code > 100 else code) if code else ""


def shape_of(shape: Message, whose: str) -> tuple[int, ...] | None:
    """A TensorShapeProto; None when its rank is open."""
    dims = []
    for number, value in shape:
        if number == 2:
            # Zeros are not written.
            dims.append(next((signed(item) for part, item in message(value) if part == 1), 0))
        elif number == 3 and value:
            return None
    return sizes(dims, whose)


def variables(nodes: Iterable[Node]) -> int:
    """How many numbers the variables among the nodes hold."""
    shapes = [node.shape() for node in nodes if node.op in _VARIABLES]
    return count(shape for shape in shapes if shape is not None)


def constants(nodes: Iterable[Node]) -> int:
    """How many numbers the constants of floating point among the nodes hold."""
    shapes = []
    for node in nodes:
        if node.op == "Const" and node.dtype() in _FLOATS:
            value = node.attribute("value")
            tensor = (
                next((item for number, item in value if number == 8), None) if value is not None else None
            )
            shape = next((item for number, item in message(tensor) if number == 2), None) if tensor else None
            found = () if shape is None else shape_of(message(shape), node.name)
            shapes += [] if found is None else [found]
    return count(shapes)


def tensor(node: Node, dtype: str) -> TensorSpec:
    """A node as an input or output."""
    return TensorSpec(node.name, node.shape(), dtype)


def _called(value: Message) -> list[str]:
    """Function names in an AttrValue: one (`func`), or a list of them."""
    names = []
    for number, item in value:
        if number == 10:
            names.append(_function_reference(message(item)))
        elif number == 1:
            names += [_function_reference(message(each)) for part, each in message(item) if part == 9]
    return names


def _function_reference(reference: Message) -> str:
    return next((text(value) for number, value in reference if number == 1), "")


def _function_name(function: Message) -> str:
    signature = next((message(value) for number, value in function if number == 1), None)
    return "" if signature is None else _function_reference(signature)

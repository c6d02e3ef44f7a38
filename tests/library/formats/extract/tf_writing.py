"""Small GraphDefs and SavedModels, written by hand."""

from __future__ import annotations

from tests.library.formats.extract.wire_writing import Field, Value, message

FLOAT, INT64 = 1, 9


def shape(*dims: int) -> list[Field]:
    return [(2, [(1, dim)]) for dim in dims]


def attribute(name: str, number: int, value: Value) -> Field:
    return (5, [(1, name), (2, [(number, value)])])


def node(name: str, op: str, inputs: list[str], *attributes: Field) -> Field:
    return (1, [(1, name), (2, op), *((3, each) for each in inputs), *attributes])


def frozen() -> bytes:
    """x [?, 4] -> MatMul -> Softmax."""
    return message(
        node("x", "Placeholder", [], attribute("dtype", 6, FLOAT), attribute("shape", 7, shape(-1, 4))),
        node(
            "w",
            "Const",
            [],
            attribute("dtype", 6, FLOAT),
            attribute("value", 8, [(1, FLOAT), (2, shape(4, 3)), (4, bytes(48))]),
        ),
        node("axis", "Const", [], attribute("dtype", 6, 3), attribute("value", 8, [(1, 3), (2, shape(2))])),
        node("h", "MatMul", ["x:0", "w"], attribute("T", 6, FLOAT)),
        node("init", "NoOp", ["^w"]),
        node("y", "Softmax", ["h", "^axis"], attribute("T", 6, FLOAT)),
        (4, [(1, 1882)]),
    )


def info(name: str, tensor: str, *dims: int) -> list[Field]:
    return [(1, name), (2, [(1, tensor), (2, FLOAT), (3, shape(*dims))])]


def function(name: str, *ops: Field) -> Field:
    """A function of the library; its nodes have number 3 there."""
    return (1, [(1, [(1, name)]), *((3, value) for _, value in ops)])


def saved_model(signatures: list[Field], graph: list[Field], *tags: str) -> bytes:
    info_def: list[Field] = [*((4, tag) for tag in tags), (5, "2.21.0")]
    meta: list[Field] = [(1, info_def), (2, graph), *signatures]
    return message((1, 1), (2, meta))


def signature(name: str, inputs: list[list[Field]], outputs: list[list[Field]]) -> Field:
    return (5, [(1, name), (2, [*((1, each) for each in inputs), *((2, each) for each in outputs)])])


def served() -> bytes:
    """TensorFlow 2's shape: a call of a function, a variable, and what restores it."""
    graph: list[Field] = [
        node("serving_x", "Placeholder", [], attribute("dtype", 6, FLOAT)),
        node("w", "VarHandleOp", [], attribute("dtype", 6, FLOAT), attribute("shape", 7, shape(4, 3))),
        node("momentum", "VarHandleOp", [], attribute("dtype", 6, FLOAT), attribute("shape", 7, shape(4, 3))),
        node("call", "StatefulPartitionedCall", ["serving_x", "w"], attribute("f", 10, [(1, "outer")])),
        node("restore", "RestoreV2", ["momentum"]),
        (
            2,
            [
                function("outer", node("c", "PartitionedCall", [], attribute("f", 10, [(1, "inner")]))),
                function(
                    "inner",
                    node("m", "MatMul", []),
                    node("again", "While", [], attribute("body", 10, [(1, "outer")])),
                ),
                function("unused", node("z", "Cosh", [])),
            ],
        ),
    ]
    names = [
        signature("__saved_model_init_op", [], []),
        signature("serving_default", [info("x", "serving_x:0", -1, 4)], [info("y", "call:0", -1, 3)]),
        signature("train", [info("x", "serving_x:0", -1, 4)], [info("loss", "call:1")]),
    ]
    return saved_model(names, graph, "serve")

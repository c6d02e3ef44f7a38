"""Small ONNX models, written by hand."""

from __future__ import annotations

from tests.library.formats.extract.wire_writing import Field, message, packed

FLOAT, INT64, STRING, BFLOAT16 = 1, 7, 8, 16


def value_info(name: str, code: int = FLOAT, dims: tuple[int | str, ...] = ("batch", 4)) -> list[Field]:
    shape: list[Field] = [(1, [(1, dim) if isinstance(dim, int) else (2, dim)]) for dim in dims]
    return [(1, name), (2, [(1, [(1, code), (2, shape)])])]


def tensor(name: str, dims: tuple[int, ...], raw: bytes | None = None, **external: str) -> list[Field]:
    fields: list[Field] = [(1, packed(*dims)), (2, FLOAT), (8, name)]
    if raw is not None:
        fields.append((9, raw))
    if external:
        fields += [(13, [(1, key), (2, value)]) for key, value in external.items()]
        fields.append((14, 1))
    return fields


def node(kind: str, inputs: list[str], outputs: list[str], *attributes: list[Field]) -> list[Field]:
    parts: list[Field] = [(1, name) for name in inputs]
    parts += [(2, name) for name in outputs]
    return [*parts, (4, kind), *((5, attribute) for attribute in attributes)]


def graph(
    nodes: list[list[Field]],
    inputs: list[list[Field]],
    outputs: list[list[Field]],
    initializers: list[list[Field]] = [],  # noqa: B006 - never changed
) -> list[Field]:
    return [
        *((1, each) for each in nodes),
        (2, "graph"),
        *((5, each) for each in initializers),
        *((11, each) for each in inputs),
        *((12, each) for each in outputs),
    ]


def model(of_graph: list[Field], opset: int = 17) -> bytes:
    return message((1, 8), (2, "hand"), (3, "1.0"), (7, of_graph), (8, [(2, opset)]))


def small() -> bytes:
    """Gemm and Relu: x [batch, 4] -> y [batch, 3]."""
    return model(
        graph(
            [node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["y"])],
            [value_info("x"), value_info("w", dims=(4, 3))],
            [value_info("y", dims=("batch", 3))],
            [tensor("w", (4, 3), bytes(48)), tensor("b", (3,), bytes(12))],
        )
    )

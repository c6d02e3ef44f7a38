"""What a conversion says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]
"""Dimensions of an input; -1 in front means that the batch is free."""

Inputs = Mapping[str, Shape]


@dataclass(frozen=True)
class Report:
    """How a model was converted.

    Attributes:
        backend: which converter did it.
        opset: of the ONNX file; None when the target is no ONNX.
        operators: how often each operator occurs in the target.
        warnings: what a user should know, in sentences: dropped layers, assumed types.
        files: what was written, relative to the target folder.
    """

    backend: str
    opset: int | None
    operators: Mapping[str, int]
    warnings: tuple[str, ...]
    files: tuple[str, ...]

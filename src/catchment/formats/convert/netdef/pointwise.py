"""Caffe2's operators of one input without arguments: the ONNX operator, and the formula on arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from catchment.formats.convert import arrays
from catchment.formats.convert.arrays import Array

POINTWISE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "Abs": ("Abs", np.abs),
    "Ceil": ("Ceil", np.ceil),
    "Cos": ("Cos", np.cos),
    "Exp": ("Exp", np.exp),
    "Floor": ("Floor", np.floor),
    "Log": ("Log", np.log),
    "Negative": ("Neg", np.negative),
    "Relu": ("Relu", lambda x: np.maximum(x, 0)),
    "Sigmoid": ("Sigmoid", arrays.sigmoid),
    "Sign": ("Sign", np.sign),
    "Sin": ("Sin", np.sin),
    "Softplus": ("Softplus", lambda x: np.logaddexp(0, x)),
    "Softsign": ("Softsign", lambda x: x / (1 + np.abs(x))),
    "Sqrt": ("Sqrt", np.sqrt),
    "Tanh": ("Tanh", np.tanh),
}

SAME = (
    "Alias",
    "Copy",
    "CopyCPUToGPU",
    "CopyFromCPUInput",
    "CopyGPUToCPU",
    "EnsureCPUOutput",
    "StopGradient",
)
"""What changes nothing."""

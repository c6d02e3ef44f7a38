"""What every conversion's test checks of its result, apart from the gate itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from catchment.formats.convert.conversion import Conversion

MAX_ERROR = 1e-5


def assert_equal_to_source(conversion: Conversion, *outputs: str) -> None:
    """The gate compared these outputs, on random and on special samples, and found nothing."""
    report = conversion.report.to_json()
    assert report["passed"] is True
    assert report["reference"]
    assert {each["name"] for each in report["outputs"]} == set(outputs)
    assert all(each["max_abs"] <= MAX_ERROR for each in report["outputs"])
    assert all(each.get("argmax_agreement", 1.0) == 1.0 for each in report["outputs"])
    assert {"random-0", "random-1", "random-2", "zeros", "ones"} <= set(report["samples"])


def run_onnx(folder: Path, **inputs: Any) -> dict[str, np.ndarray]:
    """Check the file with onnx and run it with onnxruntime, both here and by themselves."""
    path = folder / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))

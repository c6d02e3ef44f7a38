"""safetensors files are read by their header alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from catchment.errors import ExtractionFailed
from tests.library.formats.extract.conftest import Reader


def test_tensors_and_metadata_are_told(read: Reader) -> None:
    content = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)}, {"format": "pt"})
    found = read("Safetensors", {"model.safetensors": content})
    assert found.parameters == 10
    assert found.framework == "pt"
    assert {"name": "a", "size": [2, 3], "dType": "float32"} in found.extras["tensors"]
    assert found.absent == ("inputs, outputs and layers: the file holds tensors and no model",)


def test_parts_of_one_model_are_added_up(read: Reader) -> None:
    parts = {f"model-{i}.safetensors": save({f"t{i}": np.zeros(5, np.float32)}) for i in (1, 2)}
    assert read("Safetensors", parts).parameters == 10


def _file(header: object, data: int = 0) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ((10 * 2**30).to_bytes(8, "little") + b"{}", "a header of 10737418240 bytes"),
        (b"abc", "no safetensors"),
        (_file([]), "no JSON object"),
        (b"\x02" + bytes(7) + b"{x", "no JSON"),
        (_file({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8), "has the bytes 0 to 8"),
        (_file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 4), "of 4"),
        (_file({"a": {"dtype": "X", "shape": [2], "data_offsets": [0, 8]}}, 8), "unknown dtype"),
        (_file({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}, 8), "no size"),
        (_file({"__metadata__": {"a": 1}}), "text to text"),
        (("[" * 100_000).encode().join([(100_000).to_bytes(8, "little"), b""]), "no JSON"),
    ],
)
def test_lying_headers_are_refused(read: Reader, content: bytes, complaint: str) -> None:
    with pytest.raises(ExtractionFailed, match=complaint):
        read("Safetensors", {"model.safetensors": content})

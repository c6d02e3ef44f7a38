"""Which files initial weights may come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catchment.errors import BadTensors
from catchment.models.initial import import_weights
from catchment.models.tensors import file_digest, read_tensors, write_tensors


def test_a_tensor_file_is_copied_for_either_runtime_without_its_metadata(tmp_path: Path) -> None:
    write_tensors(
        tmp_path / "a.safetensors", {"w": np.ones((2, 3), np.float32), "n": np.array(3)}, {"x": "y"}
    )
    for runtime in ("pytorch", "keras"):
        signature = import_weights(tmp_path / "a.safetensors", tmp_path / runtime, runtime)
        assert list(signature) == ["w", "n"]
        assert read_tensors(tmp_path / runtime)["w"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert file_digest(tmp_path / "pytorch") == file_digest(tmp_path / "keras")


@pytest.mark.parametrize("name", ["model.bin", "model", "model.txt", "model.onnx", "model.pkl"])
def test_an_unknown_suffix_is_refused_with_those_that_are_accepted(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadTensors, match=r"\.safetensors.*\.pt.*\.keras"):
        import_weights(tmp_path / name, tmp_path / "out", "pytorch")


@pytest.mark.parametrize(
    ("name", "runtime"), [("m.pt", "keras"), ("m.h5", "pytorch"), ("m.keras", "pytorch")]
)
def test_a_file_of_the_other_framework_is_refused(tmp_path: Path, name: str, runtime: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadTensors, match=f"the runtime is {runtime}"):
        import_weights(tmp_path / name, tmp_path / "out", runtime)  # type: ignore[arg-type]


@pytest.mark.parametrize("tensors", [{}, {"w": np.array([np.inf])}])
def test_weights_that_cannot_be_trained_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    write_tensors(tmp_path / "m.safetensors", tensors)
    with pytest.raises(BadTensors):
        import_weights(tmp_path / "m.safetensors", tmp_path / "out", "pytorch")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("content", [b"", b"hello world", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    runtime = "pytorch" if suffix.startswith(".p") else "keras"
    with pytest.raises(BadTensors, match="model"):
        import_weights(path, tmp_path / "out", runtime)  # type: ignore[arg-type]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]

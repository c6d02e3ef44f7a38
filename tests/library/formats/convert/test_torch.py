"""TorchScript and exported programs become ONNX, state dicts safetensors; what hangs or harms is ended."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catchment.errors import ConversionFailed, InvalidField, JobStopped
from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.environments import Environments
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec
from catchment.models.tensors import TensorFile
from catchment.site import processes
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made

IMAGE = TensorSpec("image", "float32", (None, 3, 8, 8))
X = (TensorSpec("x", "float32", (None, 2)),)
IMAGES = np.ones((3, 3, 8, 8), np.float32)


def test_torchscript_with_given_inputs_scores_the_same_in_onnxruntime(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    request = Request(torch_models["script"], "TorchScript", "ONNX", inputs=(IMAGE,))
    conversion = converter.convert(request, tmp_path / "out")
    assert_equal_to_source(conversion, "output_0", "output_1")
    made = run_onnx(tmp_path / "out", image=IMAGES)
    assert [each.shape for each in made.values()] == [(3, 5), (3, 1)]
    assert conversion.signature.inputs == (IMAGE,)


def test_a_stored_signature_goes_before_inputs_and_names_the_outputs(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    stored = ModelSignature(
        (IMAGE,), tuple(TensorSpec(each, "float32", None) for each in ("classes", "score"))
    )
    wrong = (TensorSpec("image", "float32", (None, 1)),)
    request = Request(torch_models["script"], "TorchScript", "ONNX", signature=stored, inputs=wrong)
    assert_equal_to_source(converter.convert(request, tmp_path / "out"), "classes", "score")


def test_torchscript_without_shapes_is_refused_and_says_which(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    with pytest.raises(InvalidField, match=r"^inputs: a TorchScript file holds neither shapes nor dtypes"):
        converter.convert(Request(torch_models["script"], "TorchScript", "ONNX"), tmp_path / "out")


def test_an_exported_program_needs_no_shapes(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    conversion = converter.convert(
        Request(torch_models["exported"], "ExportedProgram", "ONNX"), tmp_path / "out"
    )
    assert_equal_to_source(conversion, *(each.name for each in conversion.signature.outputs))
    assert conversion.signature.inputs == (IMAGE,)
    assert [each.shape for each in run_onnx(tmp_path / "out", image=IMAGES).values()] == [(3, 5), (3, 1)]


def test_a_state_dict_becomes_safetensors_bit_by_bit_as_pytorch_reads_it(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    conversion = converter.convert(
        Request(torch_models["state"], "StateDict", "Safetensors"), tmp_path / "out"
    )
    report = conversion.report.to_json()
    assert (report["reference"], report["tolerance"], report["samples"]) == ("torch", 0.0, ["tensors"])
    assert all(each["max_abs"] == 0 for each in report["outputs"])
    with TensorFile.open(tmp_path / "out" / "model.safetensors") as file:
        assert {"half", "steps", "convolution.weight", "score.bias"} <= set(file.signature)
        assert file.signature["half"].dtype == "BF16"


def test_a_state_dict_cannot_become_onnx_and_the_reason_is_said(converter: Converter, tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"tensors and no graph; save .* with torch\.export\.save"):
        converter.convert(Request(tmp_path, "StateDict", "ONNX"), tmp_path / "out")


def test_code_that_runs_when_an_archive_is_loaded_touches_nothing_outside_of_the_child(
    converter: Converter, environments: Environments, torch_models: Made, tmp_path: Path
) -> None:
    source = torch_models["hostile"]
    with pytest.raises(ConversionFailed, match="canary"):
        converter.convert(Request(source, "TorchScript", "ONNX", inputs=X), tmp_path / "out")
    assert not torch_models.canary.exists()
    # The same archive, loaded by a process that nobody confines, does write the file.
    python = environments.get(BACKENDS["torch"]).python
    code = "import sys, torch; torch.jit.load(sys.argv[1])"
    subprocess.run(
        [python, "-I", "-c", code, source / "model.pt"], check=False, timeout=60, capture_output=True
    )
    assert torch_models.canary.exists()
    torch_models.canary.unlink()


def test_a_model_that_never_returns_is_ended_and_that_is_said(
    make_converter: Callable[..., Converter], torch_models: Made, tmp_path: Path
) -> None:
    request = Request(torch_models["endless"], "TorchScript", "ONNX", inputs=X)
    with pytest.raises(ConversionFailed, match="ended after 8 s, the time that a conversion may take"):
        make_converter(timeout_s=8).convert(request, tmp_path / "out")
    with pytest.raises(ConversionFailed, match="ended after 6 s of the processor"):
        make_converter(timeout_s=200, cpu_s=6).convert(request, tmp_path / "out")


def test_a_model_that_takes_too_much_memory_is_ended_and_that_is_said(
    make_converter: Callable[..., Converter], torch_models: Made, tmp_path: Path
) -> None:
    request = Request(torch_models["greedy"], "TorchScript", "ONNX", inputs=X)
    with pytest.raises(ConversionFailed, match=r"MB of memory|not enough memory|can't allocate"):
        make_converter(timeout_s=200, memory_mb=500).convert(request, tmp_path / "out")


def test_a_cancel_ends_the_child_within_seconds_and_leaves_no_process(
    converter: Converter, torch_models: Made, tmp_path: Path
) -> None:
    request = Request(torch_models["endless"], "TorchScript", "ONNX", inputs=X)
    scratch = tmp_path / "scratch"
    converter = Converter(converter.environments, converter.runner, scratch)
    cancel, failed = threading.Event(), []

    def convert() -> None:
        with pytest.raises(JobStopped, match="stopped while torch was at work"):
            converter.convert(request, tmp_path / "out", cancel)
        failed.append(False)

    thread = threading.Thread(target=convert)
    thread.start()
    deadline = time.monotonic() + 60
    while not (folders := list(scratch.glob("*/work/result.*")) + list(scratch.glob("*/output.log"))):
        assert time.monotonic() < deadline
        cancel.wait(0.05)
    mark = f"CATCHMENT_TASK={folders[0].parent}"
    began = time.monotonic()
    cancel.set()
    thread.join(20)
    assert time.monotonic() - began < 10
    assert failed == [False]
    assert not processes.marked(mark)
    assert not list(scratch.iterdir())
    assert not (tmp_path / "out").exists()

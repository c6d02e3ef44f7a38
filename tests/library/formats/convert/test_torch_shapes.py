"""What a TorchScript file does not say of its ends is found by calling it, and kept open in the result."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from catchment.errors import InvalidField
from catchment.formats.convert.backends.torch.entry import TorchScript
from catchment.formats.convert.contract import Job
from catchment.formats.convert.tensor_spec import TensorSpec

pytestmark = [
    pytest.mark.xdist_group("conversion-torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:no signature found:UserWarning"),
]
STEPS = TensorSpec("x", "float32", (None, None, 4))


class Sequences(torch.nn.Module):
    """A result for each step, one for each sequence, and one that knows neither."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.relu(x), x.mean(dim=1), x.sum(dim=[0, 1])


class Difference(torch.nn.Module):
    """Not the same when its arguments change places."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b


def opened(folder: Path, module: torch.nn.Module, *given: TensorSpec) -> tuple[TorchScript, Job]:
    (folder / "target").mkdir()
    torch.jit.script(module).save(str(folder / "m.pt"))
    job = Job(folder, "torch", folder, "TorchScript", "ONNX", ("convert",), given=given)
    return TorchScript(job), job


def test_an_output_is_open_where_it_follows_an_open_input(tmp_path: Path) -> None:
    model, job = opened(tmp_path, Sequences(), STEPS)
    shapes = [each.shape for each in model.signature.outputs]
    assert shapes == [(None, None, 4), (None, 4), (4,)]
    model.convert(job)
    session = onnxruntime.InferenceSession(tmp_path / "target/model.onnx", providers=["CPUExecutionProvider"])
    told = [[isinstance(length, str) for length in each.shape] for each in session.get_outputs()]
    assert told == [[True, True, False], [True, False], [False]]


def test_names_that_are_only_in_part_those_of_forward_are_refused(tmp_path: Path) -> None:
    other, b = (TensorSpec(name, "float32", (None, 4)) for name in ("other", "b"))
    with pytest.raises(InvalidField, match="names b as forward does, and others not: it takes a, b"):
        opened(tmp_path, Difference(), b, other)


def test_shapes_that_forward_does_not_take_are_told_in_its_last_words(tmp_path: Path) -> None:
    wrong = (TensorSpec("a", "float32", (None, 4)), TensorSpec("b", "float32", (None, 3)))
    with pytest.raises(
        InvalidField, match=r"^inputs: forward does not take .*The size of tensor a"
    ) as refused:
        opened(tmp_path, Difference(), *wrong)
    assert "\n" not in str(refused.value)

"""The gate lets nothing pass that was not compared, or whose ends are others than the source's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.errors import BadTensors, GateFailed
from catchment.formats.convert import child, gate, sample_files, samples
from catchment.formats.convert.comparing import Tolerance
from catchment.formats.convert.contract import Job
from catchment.formats.convert.samples import Kind
from catchment.formats.convert.tensor_spec import ModelSignature, TensorSpec

IMAGE = TensorSpec("data", "float32", (None, 3, 8, 8))
SCORE = TensorSpec("prob", "float32", (None, 5))
KINDS = (Kind("random-0", 1), Kind("zeros", 2))


def spec(name: str = "data", dtype: str = "float32", *shape: int | None) -> ModelSignature:
    return ModelSignature((TensorSpec(name, dtype, shape or IMAGE.shape),), (SCORE,))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (spec("data", "float32", None, 8, 8, 3), "input is data float32[?, 8, 8, 3], of the source data"),
        (spec("data_orig"), "input data of the source is gone"),
        (spec("data", "float64"), "input is data float64"),
        (spec("data", "float32", 1, 3, 8, 8), "input data has a fixed batch"),
        (
            ModelSignature((IMAGE,), (TensorSpec("Identity:0", "float32", None),)),
            "output prob of the source is gone",
        ),
    ],
)
def test_other_names_layouts_dtypes_and_batches_are_found(result: ModelSignature, words: str) -> None:
    assert not gate.signature_problems(spec(), spec())
    assert words in "; ".join(gate.signature_problems(spec(), result))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "samples").mkdir()
    return tmp_path


def predicted(folder: Path, label: str, *values: float) -> None:
    for index, value in enumerate(values):
        sample_files.write(folder, label, index, {"prob": np.full((2, 5), value, np.float32)})


def test_an_open_length_that_was_fixed_is_found_in_inputs_alone() -> None:
    free, fixed = (TensorSpec("x", "float32", (None, length, 4)) for length in (None, 8))
    problems = gate.signature_problems(ModelSignature((free,), (free,)), ModelSignature((fixed,), (fixed,)))
    assert problems == ["input x has a fixed dimension 1, of the source it is free: x float32[?, 8, 4]"]


def test_equal_predictions_pass(folder: Path) -> None:
    predicted(folder, gate.SOURCE, 1.0, 2.0)
    predicted(folder, gate.RESULT, 1.0, 2.0)
    found = gate.compare(folder, KINDS, {}, Tolerance())
    assert (found.samples, found.problems) == (("random-0", "zeros"), ())


def test_a_sample_that_the_source_refuses_is_noted_and_one_that_only_the_result_refuses_fails(
    folder: Path,
) -> None:
    predicted(folder, gate.SOURCE, 1.0, 2.0)
    predicted(folder, gate.RESULT, 1.0, 2.0)
    noted = gate.compare(folder, KINDS, {gate.SOURCE: {"1": "no such index"}}, Tolerance())
    assert (noted.samples, noted.problems) == (("random-0",), ())
    assert noted.notes == ("the source does not take the sample zeros: no such index",)
    failed = gate.compare(folder, KINDS, {gate.RESULT: {"1": "too long"}}, Tolerance())
    assert failed.problems == ("the result does not take the sample zeros: too long",)


def test_without_any_random_sample_nothing_passes(folder: Path) -> None:
    predicted(folder, gate.SOURCE, 1.0, 2.0)
    predicted(folder, gate.RESULT, 1.0, 2.0)
    found = gate.compare(folder, KINDS, {gate.SOURCE: {"0": "no"}}, Tolerance())
    assert found.problems == ("the source took no random sample, so that nothing could be compared",)


def test_predictions_that_lack_are_a_problem(folder: Path) -> None:
    predicted(folder, gate.SOURCE, 1.0, 2.0)
    predicted(folder, gate.RESULT, 1.0)
    assert "source-1" not in str(gate.compare(folder, KINDS[:1], {}, Tolerance()).problems)
    assert "result-1.npz cannot be read" in gate.compare(folder, KINDS, {}, Tolerance()).problems[0]


def test_objects_and_compressed_arrays_are_not_read_back(folder: Path) -> None:
    path = folder / "samples" / "source-0.npz"
    np.savez(path, names=np.array('["y"]'), **{"0": np.array([{}], dtype=object)})
    with pytest.raises(BadTensors, match="source-0"):
        sample_files.read(folder, "source", 0)
    np.savez_compressed(path, names=np.array('["y"]'), **{"0": np.zeros(10)})
    with pytest.raises(BadTensors, match="compressed"):
        sample_files.read(folder, "source", 0)


def test_a_failed_report_carries_its_numbers_as_json() -> None:
    report = gate.EquivalenceReport(
        "A", "B", "x", "x", "base", lossy=False, tolerance=None, seed=1, problems=("it is wrong",),
        outputs=(gate.OutputError("y", float("inf"), 0.1, float("inf"), None, "zeros", "NaN"),),
    )  # fmt: skip
    with pytest.raises(GateFailed, match="A to B with x: it is wrong") as caught:
        report.require_pass()
    told = json.loads(json.dumps(caught.value.report, allow_nan=False))
    assert told["outputs"][0]["max_abs"] == "inf"
    assert told["passed"] is False


def test_samples_follow_the_seed_and_the_signature() -> None:
    inputs = (IMAGE, TensorSpec("ids", "int64", (None, None)), TensorSpec("mask", "bool", (None, 2)))
    kinds = samples.kinds(inputs, missing=True)
    first, again, other = (samples.draw_all(inputs, kinds, seed) for seed in (1, 1, 2))
    for kind, one, two, three in zip(kinds, first, again, other, strict=True):
        assert {name: (array.dtype.name, array.shape[0]) for name, array in one.items()} == {
            "data": ("float32", kind.batch),
            "ids": ("int64", kind.batch),
            "mask": ("bool", kind.batch),
        }
        assert all(
            np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f") for name in one
        )
        drawn = kind.name.startswith("random")
        assert drawn != np.array_equal(one["data"], three["data"]) or kind.name in (
            "large",
            "missing",
            "wide",
        )
    lengths = {each["ids"].shape[1] for each in first}
    assert len(lengths) == 2, "an open length that a converter fixed is found by a sample of another one"
    by_name = {kind.name: each for kind, each in zip(kinds, first, strict=True)}
    assert not by_name["zeros"]["data"].any()
    assert (by_name["ones"]["data"] == 1).all()
    assert np.isnan(by_name["missing"]["data"]).any()
    assert np.abs(by_name["large"]["data"]).max() > 50
    sizes = np.log10(np.abs(by_name["wide"]["data"]))
    assert [int(((low <= sizes) & (sizes < low + 2)).any()) for low in (-2, 0, 2, 4)] == [1, 1, 1, 1]


def test_images_of_bytes_are_tried_in_all_their_shades_and_indices_stay_small() -> None:
    inputs = (TensorSpec("image", "uint8", (None, 3, 16, 16)), TensorSpec("ids", "uint8", (None, 16)))
    (sample, *_) = samples.draw_all(inputs, samples.kinds(inputs), 0)
    assert sample["image"].max() > 250
    assert sample["ids"].max() < 4


def test_rows_that_a_model_knows_make_one_sample_of_its_inputs_batch() -> None:
    found = samples.Known(np.arange(200, dtype=np.float32).reshape(100, 2), 30.0)
    made = {batch: samples.known(TensorSpec("x", "float64", (batch, 2)), found) for batch in (None, 1, 101)}
    assert made[101] is None
    for batch, rows in ((None, samples.KNOWN_ROWS), (1, 1)):
        kind, sample = made[batch] or pytest.fail("there are enough rows")
        assert kind == Kind("known", rows, 30.0)
        assert sample["x"].dtype == np.float64
        assert np.array_equal(sample["x"], found.rows[:rows])
    assert samples.known(TensorSpec("x", "float32", (None, 2)), samples.Known()) is None


class Puzzling:
    """A model whose places cannot be looked up."""

    signature = ModelSignature((TensorSpec("x", "float32", (None, 2)),))
    takes_missing = False

    def convert(self, job: Job) -> None: ...

    def predict(self, sample: samples.Arrays) -> samples.Arrays:
        return sample

    def check(self) -> dict[str, Any]:
        return {}

    def known(self, _: np.random.Generator) -> samples.Known:
        raise IndexError("no such attribute")


def test_a_model_whose_places_cannot_be_looked_up_is_tried_without_them(folder: Path) -> None:
    told: dict[str, Any] = {}
    child._draw(Job(folder, "x", folder, "A", "B", ("draw",)), Puzzling(), told)
    assert told["notes"] == (
        "what the model has learned could not be looked up: IndexError: no such attribute",
    )
    assert [kind["name"] for kind in told["kinds"]][-1] == "large"
    assert sample_files.count(folder) == len(told["kinds"])

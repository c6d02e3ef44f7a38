"""scikit-learn, XGBoost and LightGBM become ONNX, and score as they did.

Models that tests/e2e/test_model_rows.py converts are not repeated here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from catchment.errors import ConversionFailed, GateFailed, InvalidField
from catchment.formats.convert import gate
from catchment.formats.convert.backend import Backend
from catchment.formats.convert.comparing import Tolerance
from catchment.formats.convert.contract import TARGET, Job
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.environments import Environment
from catchment.formats.convert.running import Runner, Told
from catchment.formats.convert.samples import Kind
from catchment.formats.convert.tensor_spec import TensorSpec
from tests.library.formats.convert.checking import assert_equal_to_source, run_onnx
from tests.library.formats.convert.conftest import Made

CLASSIFIED = ("label", "probabilities")
ROW = np.zeros((1, 6), np.float32)


@pytest.mark.parametrize(
    ("name", "source_format", "outputs"),
    [
        ("text_labels", "SKLearn", CLASSIFIED),
        ("regressor", "SKLearn", ("variable",)),
        ("scaler", "SKLearn", ("variable",)),
        ("xgboost_registry", "XGBoost", CLASSIFIED),
        ("xgboost_values", "XGBoost", ("variable",)),
        ("lightgbm_binary", "LightGBM", CLASSIFIED),
        ("lightgbm_values", "LightGBM", ("variable",)),
    ],
)
def test_a_model_of_tables_scores_the_same_in_onnxruntime(
    converter: Converter,
    sklearn_models: Made,
    tmp_path: Path,
    name: str,
    source_format: str,
    outputs: tuple[str, ...],
) -> None:
    conversion = converter.convert(Request(sklearn_models[name], source_format, "ONNX"), tmp_path / "out")
    assert conversion.backend == "sklearn"
    assert_equal_to_source(conversion, *outputs)
    made = run_onnx(tmp_path / "out", input=ROW)
    assert set(made) == set(outputs)
    assert all(len(each) == 1 for each in made.values())
    assert ("missing" in conversion.report.samples) == (source_format != "SKLearn")
    assert ("known" in conversion.report.samples) == (source_format == "SKLearn")


def test_a_text_label_stays_text(converter: Converter, sklearn_models: Made, tmp_path: Path) -> None:
    converter.convert(Request(sklearn_models["text_labels"], "SKLearn", "ONNX"), tmp_path / "out")
    assert run_onnx(tmp_path / "out", input=ROW)["label"][0] in ("a", "b", "c")


@dataclass(frozen=True)
class Misplacing(Runner):
    """A runner whose converter writes 60,000 where the model splits at 50,000."""

    kinds: list[Kind] = field(default_factory=list)
    without_known: list[gate.Compared] = field(default_factory=list)

    def run(
        self, backend: Backend, where: Environment, job: Job, cancel: threading.Event | None = None
    ) -> Told:
        told = super().run(backend, where, job, cancel)
        if "convert" in job.steps:
            path = job.folder / TARGET / "model.onnx"
            model = onnx.load(path)
            (tree,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
            (values,) = (each.floats for each in tree.attribute if each.name == "nodes_values")
            (at,) = np.flatnonzero(np.isclose(values, 50_000, rtol=1e-4))
            values[at] = 60_000
            onnx.save(model, path)
            self.kinds[:] = [Kind(**kind) for kind in told.values["kinds"]]
        else:
            before = [kind for kind in self.kinds if kind.name != "known"]
            self.without_known.append(gate.compare(job.folder, before, {}, Tolerance()))
        return told


def test_one_threshold_that_is_wrong_is_found_among_what_the_model_has_learned(
    converter: Converter, sklearn_models: Made, tmp_path: Path
) -> None:
    runner = Misplacing(converter.runner.bounds, converter.runner.isolation)
    with pytest.raises(GateFailed, match=r"of the values are others \(sample known\)"):
        Converter(converter.environments, runner).convert(
            Request(sklearn_models["incomes"], "SKLearn", "ONNX"), tmp_path / "out"
        )
    (without_known,) = runner.without_known
    assert without_known.problems == ()
    assert "random-0" in without_known.samples


def test_a_given_input_names_the_result_and_must_have_the_models_features(
    converter: Converter, sklearn_models: Made, tmp_path: Path
) -> None:
    given = (TensorSpec("features", "float32", (None, 6)),)
    request = Request(sklearn_models["scaler"], "SKLearn", "ONNX", inputs=given)
    converter.convert(request, tmp_path / "out")
    assert set(run_onnx(tmp_path / "out", features=ROW)) == {"variable"}
    wrong = (TensorSpec("features", "float32", (None, 7)),)
    with pytest.raises(InvalidField, match=r"inputs: says features float32\[\?, 7\]; this model takes .*6"):
        converter.convert(Request(sklearn_models["scaler"], "SKLearn", "ONNX", inputs=wrong), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_joblib_is_opened_only_where_that_is_said(
    converter: Converter, sklearn_models: Made, tmp_path: Path
) -> None:
    with pytest.raises(ConversionFailed, match=r"model\.joblib is a pickle.*allow_pickle: true"):
        converter.convert(Request(sklearn_models["joblib"], "SKLearn", "ONNX"), tmp_path / "no")
    allowed = Request(sklearn_models["joblib"], "SKLearn", "ONNX", options={"allow_pickle": True})
    assert_equal_to_source(converter.convert(allowed, tmp_path / "out"), *CLASSIFIED)


def test_a_hostile_pickle_touches_nothing_outside_of_the_child(
    converter: Converter, sklearn_models: Made, tmp_path: Path
) -> None:
    source = sklearn_models["hostile_joblib"]
    before = (source / "model.joblib").read_bytes()
    request = Request(source, "SKLearn", "ONNX", options={"allow_pickle": True})
    with pytest.raises(ConversionFailed, match=r"Read-only file system|No such file"):
        converter.convert(request, tmp_path / "out")
    assert not sklearn_models.canary.exists()
    assert (source / "model.joblib").read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_a_child_reaches_neither_network_nor_files_nor_processes_nor_secrets(
    converter: Converter, sklearn_models: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATCHMENT_SECRET_OF_A_TEST", "token")
    request = Request(sklearn_models["probing_joblib"], "SKLearn", "ONNX", options={"allow_pickle": True})
    with pytest.raises(ConversionFailed, match="probe ") as caught:
        converter.convert(request, tmp_path / "out")
    found = dict(pair.split("=") for pair in str(caught.value).partition("probe ")[2].split())
    # The parent that it may see is number 1 of its own processes, or none.
    assert found.pop("parent") in ("0", "1")
    assert found == {"network": "0", "host": "0", "job": "0", "link": "0", "secret": "0", "work": "1"}


def test_a_child_that_fills_the_disk_is_ended_while_it_does_so(
    make_converter: Callable[..., Converter], sklearn_models: Made, tmp_path: Path
) -> None:
    converter = make_converter(timeout_s=200, disk_mb=300)
    converter = Converter(converter.environments, converter.runner, tmp_path / "scratch")
    request = Request(sklearn_models["hoarding_joblib"], "SKLearn", "ONNX", options={"allow_pickle": True})
    with pytest.raises(ConversionFailed, match=r"its files took [0-9]+ MB of disk, 300 MB are allowed"):
        converter.convert(request, tmp_path / "out")
    assert not list((tmp_path / "scratch").iterdir())


def test_a_file_of_another_kind_is_refused_with_a_sentence(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "model.ubj").write_bytes(b"no model at all")
    with pytest.raises(ConversionFailed, match=r"model\.ubj is no XGBoost model"):
        converter.convert(Request(tmp_path / "source", "XGBoost", "ONNX"), tmp_path / "out")

"""Each format that is extracted, each pair that is converted: by plain HTTP requests to a running system."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.models.tensors import read_tensors
from tests.e2e.model_conversions import CONVERSIONS, Conversion, Predictions
from tests.e2e.model_sources import SOURCES, Files, Source, made
from tests.e2e.model_work import Chain, Worked, make_models
from tests.library.formats.convert.checking import run_onnx
from tests.library.formats.extract.sampled import SAMPLES
from tests.library.formats.extract.test_hostile import Touch, zipped

pytestmark = pytest.mark.timeout(900)  # the first test waits for all ModelJobs, 80 s on two idle cores
MAX_ERROR = 1e-5


class Models:
    """What the makers wrote; `canary` is a file that hostile ones would write."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder / "models", folder / "host" / "canary"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found = Models(tmp_path_factory.mktemp("rows"))
    found.canary.parent.mkdir()
    make_models(found.folder, found.canary)
    return found


def hostile(models: Models) -> list[Chain]:
    """Models that do harm, or are none; a conversion where the extraction only tells of it."""
    refused = ("ONNX", "base", "base", [], [], None)
    truncated = (SAMPLES / "onnx" / "model.onnx").read_bytes()[:-40]
    bomb = zipped({"config.json": bytes(100 * 2**20)}, 8)
    command = pickle.dumps({"weight": Touch(models.canary)}, 2)

    def converted(name: str, kind: str, **options: Any) -> Conversion:
        return Conversion(f"{name}-onnx", f"{name}:v1", (kind, refused[0]), *refused[1:], options=options)

    def chain(name: str, kind: str, files: Files, *conversions: Conversion) -> Chain:
        return Chain(name, files, {"format": kind}, conversions)

    return [
        chain("pickle", "StateDict", {"m.pth": zipped({"m/data.pkl": command})}),
        chain(
            "joblib-code",
            "SKLearn",
            made("sklearn", "hostile_joblib")(models.folder),
            converted("joblib-code", "SKLearn", allow_pickle=True),
        ),
        chain(
            "lambda",
            "H5",
            made("tensorflow", "lambda_h5")(models.folder),
            converted("lambda", "H5"),
        ),
        chain("bomb", "Keras", {"m.keras": bomb}),
        chain("truncated", "ONNX", {"model.onnx": truncated}, converted("truncated", "ONNX")),
    ]


@pytest.fixture(scope="module")
def worked(system, models: Models) -> Iterator[Worked]:
    """All ModelJobs of this file, worked off at once."""

    def described(source: Source) -> dict[str, Any]:
        return {"format": source.format, **source.says}

    chains = [
        Chain(
            source.name,
            source.files(models.folder),
            described(source),
            [each for each in CONVERSIONS if each.source.partition(":")[0] == source.name],
        )
        for source in SOURCES
    ]
    with system.http() as http:
        found = Worked(http)
        found.work_off([*chains, *hostile(models)])
        yield found


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: each.name)
def test_an_uploaded_model_is_described_by_the_extraction_that_follows(
    worked: Worked, source: Source
) -> None:
    job = worked.jobs[source.name]
    assert job["status"]["phase"] == "Succeeded", job["status"]["message"]
    found = job["status"]["steps"]["extract"]
    told = {
        key: [{name: value for name, value in each.items() if name != "tensorName"} for each in tensors]
        for key, tensors in found["signature"].items()
        if key != "layers"
    }
    assert told == {"inputs": source.inputs, "outputs": source.outputs}
    assert found["signature"]["layers"] == source.layers
    assert (found["parameters"], found["frameworkVersion"]) == (source.parameters, source.version)
    assert found["opset"] == source.opset
    assert {key: found["extras"][key] for key in source.extras} == source.extras
    absent = "; ".join(found["absent"])
    assert all(words in absent for words in source.absent), absent
    assert bool(absent) == bool(source.absent), absent
    version, before = worked.version(f"{source.name}:v1"), worked.uploaded[source.name]
    shown = version["signature"]
    assert shown.get("inputs", []) == (source.inputs or source.says.get("inputs", []))
    assert shown.get("outputs", []) == (source.outputs or source.says.get("outputs", []))
    assert shown.get("layers", {}) == source.layers
    assert (version["state"], version["format"]) == ("ready", source.format)
    assert version["digest"] == before["digest"]


@pytest.mark.parametrize("row", CONVERSIONS, ids=lambda each: each.name)
def test_a_converted_model_passed_the_gate_and_scores_as_its_source_did(
    worked: Worked, models: Models, row: Conversion, tmp_path: Path
) -> None:
    job = worked.jobs[row.name]
    assert job["status"]["phase"] == "Succeeded", job["status"]["message"]
    report = job["status"]["steps"]["convert"]["report"]
    assert report["passed"]
    assert report["lossy"] is row.lossy
    assert (report["backend"], report["reference"]) == (row.backend, row.reference)
    assert report["outputs"], "something was compared"
    if not row.lossy:
        assert max(each["max_abs"] for each in report["outputs"]) <= MAX_ERROR
        assert all(each.get("argmax_agreement", 1.0) == 1.0 for each in report["outputs"])
    name = row.source.partition(":")[0]
    version, source = worked.version(f"{name}:{row.name}"), worked.version(row.source)
    assert (version["state"], version["format"]) == ("ready", row.pair[1])
    assert version["id"] == job["status"]["resultModelID"]
    assert version["equivalence"] == report
    assert version["signature"].get("inputs", []) == row.takes
    assert version["signature"].get("outputs", []) == row.gives
    assert worked.ancestors(version["id"])[0]["id"] == source["id"] == job["status"]["sourceModelID"]
    files = worked.downloaded(f"{name}:{row.name}")
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    if row.predicted is not None:
        _scores_the_same(row, row.predicted(models.folder), tmp_path)


def _scores_the_same(row: Conversion, known: Predictions, folder: Path) -> None:
    scored = list(run_onnx(folder, **known.inputs).values())
    assert len(scored) == len(known.outputs)
    for ours, theirs in zip(scored, known.outputs, strict=True):
        assert ours.shape == theirs.shape
        if row.lossy:
            assert np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()
        else:
            np.testing.assert_allclose(ours, theirs, rtol=MAX_ERROR, atol=MAX_ERROR)
            if theirs.ndim == 2:
                np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))


def test_converted_tensors_are_the_state_dicts(worked: Worked, models: Models, tmp_path: Path) -> None:
    files = worked.downloaded("statedict:statedict-safetensors")
    (tmp_path / "m.safetensors").write_bytes(files["model.safetensors"])
    found = read_tensors(tmp_path / "m.safetensors")
    with np.load(models.folder / "torch" / "state.npz") as known:
        assert set(found) == set(known)
        for name, values in found.items():
            np.testing.assert_array_equal(values, known[name])


def test_every_pair_that_is_offered_is_tried_here() -> None:
    from catchment.formats.convert.routes import ROUTES

    tried = {tuple(name.lower() for name in row.pair) for row in CONVERSIONS}
    assert tried == {tuple(name.lower() for name in pair) for pair in ROUTES}


def test_every_format_that_is_read_is_tried_here() -> None:
    from catchment.formats.extract.readers import READERS

    assert {source.format for source in SOURCES} == set(READERS)


FAILS = (
    ("pickle", "would run 'posix.system'"),
    ("joblib-code", "would run"),
    ("joblib-code-onnx", "host/canary"),
    ("lambda-onnx", "Lambda layer, which is Python code"),
    ("bomb", "when unpacked"),
    ("truncated", "damaged or cut off"),
    ("truncated-onnx", "model.onnx is damaged"),
)


@pytest.mark.parametrize(("name", "words"), FAILS, ids=lambda each: each.replace(" ", "-"))
def test_what_is_hostile_or_damaged_fails_with_the_reason_and_harms_nothing(
    worked: Worked, models: Models, name: str, words: str
) -> None:
    status = worked.jobs[name]["status"]
    assert status["phase"] == "Failed"
    assert words in status["message"]
    assert "resultModelID" not in status
    assert not models.canary.exists()
    source = name.removesuffix("-onnx")
    after = worked.version(f"{source}:v1")
    assert after["state"] == "ready"
    assert after["digest"] == worked.uploaded[source]["digest"]
    assert worked.version(f"{source}:{source}-onnx") == {}
    events = worked.http.get(
        f"/api/v1alpha1/namespaces/default/modeljobs/{worked.jobs[name]['metadata']['name']}/events"
    ).json()["items"]
    assert (events[-1]["reason"], events[-1]["type"]) == ("Failed", "Warning")
    assert words in events[-1]["message"]

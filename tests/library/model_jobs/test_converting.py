"""What a conversion is told of its source's shapes, and files that converters do not take as links."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from catchment.model_jobs import files, manager
from catchment.store import Store
from tests.library.model_jobs.conftest import ANNA, body, work

PAIR = {"mmdnn": {"from": "ONNX", "to": "ONNX"}, "options": {"operation": "slim"}}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            [{"name": "x", "shape": [-1, 5]}],
            "spec.inputs: says x float32[?, 5], the version's signature says",
        ),
        ([{"name": "x", "shape": [-1, 4], "dType": "int64"}], "spec.inputs: says x int64[?, 4]"),
        ([{"name": "y", "shape": [-1, 4]}], "spec.inputs: names 'y', which the version's signature"),
    ],
)
def test_inputs_that_contradict_the_versions_signature_are_named(
    store: Store, onnx_model: dict[str, Any], inputs: list[dict[str, Any]], words: str
) -> None:
    manager.create(store, "default", body("reads", extraction={}), ANNA)
    assert work(store, "reads")["status"]["phase"] == "Succeeded"
    spec = body(conversion=PAIR, desiredTag="default/net:v2", inputs=inputs)
    manager.create(store, "default", spec, ANNA)
    status = work(store)["status"]
    assert status["phase"] == "Failed"
    assert words in status["message"]


def test_weights_beside_an_onnx_file_get_bytes_of_their_own(tmp_path: Path) -> None:
    blob, folder = tmp_path / "blob", tmp_path / "model"
    blob.write_bytes(b"weights")
    (folder / "deep").mkdir(parents=True)
    for name in ("model.onnx", "deep/w.bin"):
        os.link(blob, folder / name)
    for _ in range(2):
        files.copy_external_data(folder)
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
            "model.onnx",
            "deep/w.bin",
        }
        assert (folder / "deep/w.bin").stat().st_nlink == 1
        assert (folder / "deep/w.bin").read_bytes() == b"weights"
        assert (folder / "model.onnx").samefile(blob)

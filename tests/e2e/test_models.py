"""From a finished job to a registered version, its download, and a second job that begins with it."""

from __future__ import annotations

import io
import zipfile

import httpx
import numpy as np

from catchment.models.tensors import read_tensors
from tests.e2e.conftest import small_job

MODELS = "/api/v1/namespaces/default/models"


def test_a_jobs_result_is_registered_downloaded_and_trained_further(system, tmp_path):
    job_id = system.start(id="registers", register={"name": "registered", "version": "v1"})
    finished = system.wait_for(job_id)
    assert finished["status"]["state"] == "FINISHED"
    saved = system.home / "namespaces" / "default" / list(finished["checkpoints"].values())[-1]["path"]
    with system.http() as http:
        (version,) = http.get(f"{MODELS}/registered").json()["models"]
        assert (version["state"], version["runtime"]) == ("ready", "pytorch")
        names = [each["version_info"]["version"] for each in http.get(f"{MODELS}/{job_id}").json()["models"]]
        assert names == list(finished["checkpoints"])
        whole = http.get("/api/v1/models/content", params={"model_id": version["id"]})
        (tmp_path / "down.safetensors").write_bytes(whole.content)
        zipped = _download(http)
    (tmp_path / "zipped.safetensors").write_bytes(zipped)
    expected = read_tensors(saved)
    for name in ("down", "zipped"):
        found = read_tensors(tmp_path / f"{name}.safetensors")
        assert found.keys() == expected.keys()
        for tensor, values in expected.items():
            np.testing.assert_array_equal(found[tensor], values)
    further = {**small_job(id="further"), "model_id": version["id"]}
    del further["model_path"]
    with system.http() as http:
        http.post("/api/v1/namespaces/default/jobs", params={"start": "true"}, json=further)
        again = system.wait_for("further")
        assert again["status"]["state"] == "FINISHED"
        path = system.home / "namespaces" / "default" / list(again["checkpoints"].values())[-1]["path"]
        np.testing.assert_array_equal(read_tensors(path)["weight"], expected["weight"] + 3)
        children = http.get("/api/v1/models/lineage", params={"model_id": version["id"]}).json()
        assert {child["name"] for child in children["descendants"]} == {"further"}


def _download(http: httpx.Client) -> bytes:
    path = "/api/v1alpha1/projects/default/models/registered/versions/v1/download"
    answer = http.post(path, headers={"X-Tenant": "lab", "X-User": "anna"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return archive.read("v1/model/registered.safetensors")

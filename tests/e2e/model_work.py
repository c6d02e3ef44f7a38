"""Uploads models, has ModelJobs worked off, several at a time, and keeps what GET then shows of them."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from catchment.formats.convert.environments import Environments
from tests.conftest import wait_until
from tests.e2e.model_conversions import Conversion
from tests.e2e.model_sources import Files
from tests.model_files.environments import environments_folder, run_maker

BASE = "/api/v1alpha1"
JOBS = f"{BASE}/namespaces/default/modeljobs"
MODELS = "/api/v1/namespaces/default/models"
WHO = {"X-Tenant": "lab", "X-User": "anna"}
AT_A_TIME = 4
"""Each conversion has two or three processes of its own; more than this only stand in each other's way."""
LOOK_S = 0.3


def make_models(folder: Path, canary: Path) -> None:
    """Have all makers write their models and predictions below `folder`, two at a time."""
    environments = Environments(environments_folder(), build_s=900)

    def made(backend: str) -> None:
        run_maker(environments, backend, f"{backend}_models.py", folder / backend, canary, 1)
        if backend == "mmdnn":
            run_maker(environments, "opencv", "opencv_predictions.py", folder / backend / "small")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(made, ("tensorflow", "torch", "sklearn", "mxnet", "mmdnn")))


@dataclass(frozen=True)
class Chain:
    """A model, and the conversions that begin with it, in their order.

    Attributes:
        described: what the upload says of it, its format at least.
    """

    name: str
    files: Files
    described: Mapping[str, Any]
    conversions: Sequence[Conversion] = ()


@dataclass
class Worked:
    """What came out: ModelJobs by their names (an upload's: the model's), versions by `model:version`."""

    http: httpx.Client
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploaded: dict[str, dict[str, Any]] = field(default_factory=dict)

    def version(self, reference: str) -> dict[str, Any]:
        """The version as GET shows it now; {} when there is none."""
        name, _, tag = reference.partition(":")
        answer = self.http.get(f"{MODELS}/rows-{name}", params={"version": tag})
        return dict(answer.json()["models"][0]) if answer.status_code == 200 else {}

    def ancestors(self, model_id: str) -> list[dict[str, Any]]:
        """Where a version came from."""
        answer = self.http.get("/api/v1/models/lineage", params={"model_id": model_id})
        return list(answer.json()["ancestors"])

    def downloaded(self, reference: str) -> Files:
        """The files below `model/` of a version's zip."""
        name, _, tag = reference.partition(":")
        path = f"{BASE}/projects/default/models/rows-{name}/versions/{tag}/download"
        answer = self.http.post(path, headers=WHO)
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            within = f"{tag}/model/"
            names = [each for each in archive.namelist() if each.startswith(within) and each[-1] != "/"]
            return {each.removeprefix(within): archive.read(each) for each in names}

    def work_off(self, chains: Iterable[Chain]) -> None:
        """Work all chains off, some at a time."""
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for each in [pool.submit(self._work, chain) for chain in chains]:
                each.result()

    def _work(self, chain: Chain) -> None:
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w") as archive:
            for name, content in chain.files.items():
                archive.writestr(f"{chain.name}/{name}", content)
        path = f"{BASE}/projects/default/models/rows-{chain.name}/versions/v1/upload"
        answer = self.http.post(
            path,
            files={"file": ("model.zip", zipped.getvalue())},
            data={"model": json.dumps(chain.described)},
            headers=WHO,
        )
        assert answer.status_code == 201, (chain.name, answer.text)
        self.uploaded[chain.name] = self.version(f"{chain.name}:v1")
        self.jobs[chain.name] = self._ended(self._extraction_of(chain.name))
        for each in chain.conversions:
            body = {"metadata": {"name": each.name}, "spec": each.spec()}
            answer = self.http.post(JOBS, json=body)
            assert answer.status_code == 201, (each.name, answer.text)
            self.jobs[each.name] = self._ended(each.name)

    def _extraction_of(self, name: str) -> str:
        """The ModelJob that an upload has created by itself."""
        listed = self.http.get(JOBS, params={"filter": "extract"}).json()["items"]
        model = f"default/rows-{name}:v1"
        (found,) = [each["metadata"]["name"] for each in listed if each["spec"]["model"] == model]
        return str(found)

    def _ended(self, name: str) -> dict[str, Any]:
        looked = 0.0

        def ended() -> dict[str, Any]:
            nonlocal looked
            if time.monotonic() < looked + LOOK_S:
                return {}
            found: dict[str, Any] = self.http.get(f"{JOBS}/{name}").json()
            looked = time.monotonic()
            return found if found["status"]["phase"] in ("Succeeded", "Failed") else {}

        return dict(wait_until(ended, timeout_s=240, what=f"ModelJob {name} to end"))  # type: ignore[call-overload]

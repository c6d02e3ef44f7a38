"""Rollouts over a store with a serving host, driven by the library's own steps, as the flow calls them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from catchment.catalog import made
from catchment.catalog import rows as catalog_rows
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile
from catchment.errors import CatchmentError, JobStopped
from catchment.serving import manager, rows, steps
from catchment.serving.claim import claim
from catchment.serving.supervise import look_after
from catchment.store import Store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from tests.conftest import wait_until
from tests.library.jobs.doubles import RecordingLauncher
from tests.library.serving.local_hosts import LocalHarness, host

ANNA = Actor("user token 0123", "lab/anna")
SIGNATURE = {
    "inputs": [{"name": "x", "dType": "float32", "size": [-1, 4]}],
    "outputs": [{"name": "y", "dType": "float32", "size": [-1, 3]}],
}
QUICK = {"step_s": 0, "probes": 4}


def classifier(seed: int, *, broken: bool = False, nan: bool = False) -> bytes:
    """An ONNX model: y = x @ w for x of [n, 4], 3 classes."""
    if broken:
        return b"this is no ONNX model"
    weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    if nan:
        weights[:] = np.nan
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "classifier", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@dataclass
class Serving:
    """A store whose servings are rolled out by the test."""

    store: Store

    def version(self, version: str, data: bytes, *, format: str = "ONNX", **config: Any) -> str:
        """A ready version `default/net:<version>`; its id."""
        file = VersionFile("model.onnx", put_bytes(self.store.blobs, data), len(data))

        def step(tx: Transaction) -> str:
            columns = {"runtime": "onnx", "format": format, "lineage": {}}
            columns["config"] = {"signature": SIGNATURE, **config}
            names = {"namespace": "default", "name": "net", "version": version}
            return str(made.insert_ready(tx, [file], Actor(), **names, **columns))

        return self.store.db.write(step)

    def create(self, name: str, version: str, **more: Any) -> None:
        """A serving of `default/net:<version>`."""
        body = {"name": name, "model": f"default/net:{version}", "canary": QUICK, **more}
        manager.create(self.store, "default", body, ANNA)

    def update(self, name: str, version: str, **more: Any) -> None:
        """Its next rollout."""
        body = {"name": name, "model": f"default/net:{version}", "canary": QUICK, **more}
        manager.update(self.store, "default", name, body, ANNA)

    def roll(self, name: str, attempt: int = 1) -> dict[str, Any]:
        """Drive the rollout that is under way as the flow does; the serving that GET shows."""
        number = self.row(name).rolling
        held = claim(self.store, "default", name, number, flow_run_id=f"run-{number}", attempt=attempt)
        try:
            for step in (steps.resolve, steps.apply, steps.await_ready, steps.smoke):
                step(self.store, held)
            for percent in steps.plan(self.store, held):
                steps.shift(self.store, held, percent)
                if steps.ask_approval(self.store, held):
                    return self.get(name)
            if not steps.ask_approval(self.store, held):
                steps.promote(self.store, held)
                steps.retire(self.store, held)
        except JobStopped as stopped:
            steps.roll_back(self.store, held, str(stopped))
        except CatchmentError as error:
            steps.roll_back(self.store, held, str(error))
        return self.get(name)

    def row(self, name: str) -> Any:
        return self.store.db.read(lambda tx: rows.require(tx, "default", name))

    def get(self, name: str) -> dict[str, Any]:
        return manager.get(self.store, "default", name, "http://api")

    def reasons(self, name: str) -> list[str]:
        """The reasons of its events, oldest first."""
        page = manager.events(self.store, "default", name, start=0, limit=None)
        return [event["reason"] for event in page["items"]]

    def remove(self, name: str) -> None:
        """Delete it, and see it gone."""
        manager.request_delete(self.store, "default", name)

        def gone() -> bool:
            look_after(self.store, RecordingLauncher())
            return self.store.db.read(lambda tx: rows.find(tx, "default", name)) is None

        wait_until(gone, timeout_s=30, what=f"the end of serving {name}")

    def digest(self, model_id: str) -> str:
        return str(self.store.db.read(lambda tx: catalog_rows.by_id(tx, model_id)).digest)


@pytest.fixture(scope="module")
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("rollouts")
    harness = LocalHarness(folder / "home", str(request.getfixturevalue("new_database")()), folder)
    try:
        with host(harness):
            yield Serving(harness.store)
    finally:
        harness.close()

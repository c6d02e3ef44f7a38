"""ModelJobs in a store, worked off by the library's own steps, as the flow calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from catchment.catalog import manager as catalog
from catchment.catalog.audit import Actor
from catchment.errors import CatchmentError, JobStopped
from catchment.model_jobs import manager, pushing, steps
from catchment.model_jobs.claim import claim
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from tests.library.catalog.test_uploads import send

ANNA = Actor("user token 0123", "lab/anna")
STEPS = {
    steps.EXTRACT: steps.extract,
    steps.CONVERT: steps.convert,
    steps.VERIFY: steps.verify,
}


def small_onnx(path: Path, rows: int = 4, columns: int = 3) -> Path:
    """y = relu(x @ w + b) for x of any number of rows; w is `rows` by `columns`."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(size=(rows, columns)).astype(np.float32),
        "b": rng.normal(size=columns).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def store(tmp_path: Path, database_url: str, cache: Path) -> Any:
    settings = Settings(home=tmp_path / "home", database_url=database_url, cache_dir=cache, job_lease_s=2.0)
    migrate(settings)
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments of backends would be built; these tests need none but this one."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def onnx_model(store: Store, tmp_path: Path) -> dict[str, Any]:
    """A ready version `default/net:v1` of an ONNX file."""
    return upload(store, "v1", small_onnx(tmp_path / "net.onnx"))


def upload(store: Store, version: str, path: Path, runtime: str = "onnx") -> dict[str, Any]:
    body = {"name": "net", "version": version, "runtime": runtime, "file_name": path.name}
    made = catalog.create(store, "default", body, ANNA)
    detail, _ = send(store, made["id"], path.read_bytes())
    return detail


Body = Callable[..., dict[str, Any]]


def body(name: str = "job", model: str = "default/net:v1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"model": model, **spec}}


def work(store: Store, name: str = "job", attempt: int = 1) -> dict[str, Any]:
    """Work a ModelJob off, to whichever end; the object that GET shows."""
    held = claim(store, "default", name, flow_run_id="run", attempt=attempt)
    try:
        steps.pull(store, held)
        for step in steps.plan(store, held):
            STEPS[step](store, held)
        pushing.push(store, held)
        steps.succeed(store, held)
    except JobStopped:
        steps.stop(store, held)
    except CatchmentError as error:
        steps.fail(store, held, error)
    return manager.get(store, "default", name)

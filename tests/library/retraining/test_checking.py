"""What a later step would refuse is refused before a run begins, by the plan's own fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from catchment.catalog.audit import Actor
from catchment.errors import InvalidField
from catchment.jobs import lifecycle
from catchment.retraining import checking, naming
from catchment.retraining.plan import parse
from catchment.serving import manager as servings
from catchment.store import Store
from catchment.store.schema import model_versions
from tests.retraining_hands import PLAN, promote, push_graph
from tests.thread_sites import job

SIGNATURE = {
    "signature": {
        "inputs": [{"name": "x", "dType": "float32", "size": [-1, 3]}],
        "outputs": [{"name": "y", "dType": "float32", "size": [-1, 2]}],
    }
}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Nothing here differs between the kinds."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def ready(store: Store, tmp_path: Path) -> Store:
    """A store with a template, and a graph whose signature is known."""
    graph = push_graph(store, tmp_path)
    known = update(model_versions).where(model_versions.c.id == graph).values(config=SIGNATURE)
    store.db.write(lambda tx: tx.execute(known))
    lifecycle.create_job(store, "default", job(id="template"))
    return store


def serve(store: Store, **more: Any) -> None:
    """A serving of the graph, which nobody has evaluated."""
    servings.create(store, "default", {"name": "net", "model": "default/net:graph", **more}, Actor())
    row = store.db.read(lambda tx: checking.serving_rows.require(tx, "default", "net"))
    store.db.write(lambda tx: promote(tx, checking.serving_rows.rollout(tx, row.uid, 1)))


def refused(store: Store, **changes: Any) -> tuple[str, str]:
    with pytest.raises(InvalidField) as found:
        checking.check(store, parse({**PLAN, **changes}, "default"))
    return found.value.field, found.value.problem


def test_a_serving_that_would_be_made_is_looked_at_first(
    ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checking.check(ready, parse(PLAN, "default"))
    field, problem = refused(ready, serving={"name": "net", "replicas": 33})
    assert (field, problem) == ("serving.replicas", "must be 0 to 32 on this machine")
    assert refused(ready, serving={"name": "net", "predictor": "b"})[0] == "serving.predictor"
    without = ready.settings.model_copy(update={"kubeconfig": tmp_path / "none"})
    monkeypatch.setattr(ready, "settings", without)
    field, problem = refused(ready, serving={"name": "net", "backend": "kubernetes"})
    assert field == "serving.backend"
    assert "kubernetes cannot be used: no cluster is known" in problem
    pods = without.model_copy(update={"model_job_runner": "kubernetes", "model_job_api_url": ""})
    monkeypatch.setattr(ready, "settings", pods)
    assert refused(ready)[0] == "convert"


def test_a_serving_that_is_there_must_be_able_to_take_the_version_and_to_compare_it(ready: Store):
    serve(ready, canary={"metric": {"name": "loss"}})
    field, problem = refused(ready, serving={"name": "net", "predictor": "b"})
    assert (field, problem) == ("serving.predictor", "there is no 'b'; it has default")
    field, problem = refused(ready)
    assert (field, problem) == (
        "gate.metric",
        "is 'accuracy', and new versions have no other; the canary compares 'loss'",
    )
    field, problem = refused(ready, gate={"metric": "loss"})
    assert field == "gate.baseline"
    assert "nothing is known of loss of default/net:graph, which serves" in problem
    checking.check(ready, parse({**PLAN, "gate": {"metric": "loss", "baseline": 0.3}}, "default"))


def test_a_job_that_keeps_no_metrics_cannot_be_compared(ready: Store):
    private = {"type": "DP", "noise_multiplier": 1.0, "clip_norm": 1.0, "metrics": "none"}
    lifecycle.update_job(ready, "default", "template", job(id="template", secure_algorithm=private))
    assert refused(ready)[0] == "gate.metric"
    checking.check(ready, parse({**PLAN, "serving": None}, "default"))


def test_what_has_begun_is_not_refused_for_what_has_become_wrong(ready: Store):
    run, wanted = str(uuid4()), parse(PLAN, "default")
    lifecycle.create_job(ready, "default", job(id=naming.child(run)))
    lifecycle.request_delete(ready, "default", "template")
    checking.check_new(ready, wanted, run)
    with pytest.raises(InvalidField, match=r"job\.template"):
        checking.check_new(ready, wanted, str(uuid4()))


def test_a_counted_version_is_free_with_all_that_is_made_of_it(ready: Store):
    other = update(model_versions).where(model_versions.c.version == "graph").values(version="v7-onnx")
    ready.db.write(lambda tx: tx.execute(other))
    assert ready.db.read(lambda tx: naming.next_version(tx, "default", "net", "count")) == "v8"

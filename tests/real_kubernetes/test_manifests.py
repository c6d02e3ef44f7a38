"""A real API server takes what is rendered, and drops nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.deployments.conftest import APPLIED
from tests.deployments.kustomizing import render
from tests.kubernetes_double.objects import Object
from tests.kubernetes_double.problems import Problem
from tests.kubernetes_double.resources import Resource
from tests.library.serving.manifests.cases import cases
from tests.real_kubernetes.older import as_of_1_20
from tests.real_kubernetes.remote import RemoteObjects, path
from tests.real_kubernetes.server import Running
from tests.real_kubernetes.trainings import training

CASES = cases()
SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")


@pytest.fixture
def objects(apiserver: Running) -> Iterator[RemoteObjects]:
    opened = RemoteObjects(apiserver)
    yield opened
    opened.close()


@pytest.mark.parametrize("folder", APPLIED, ids=lambda folder: str(folder.relative_to(ROOT / "deployments")))
def test_what_is_deployed_is_accepted_whole(objects: RemoteObjects, folder: Path) -> None:
    rendered = render(folder)
    for found in rendered:
        if found["kind"] == "Namespace":
            _have(objects, found)
    for found in rendered:
        accepted(objects, found)


@pytest.mark.parametrize("name", CASES)
def test_what_servings_are_rendered_to_is_accepted_whole(objects: RemoteObjects, name: str) -> None:
    for made in CASES[name]:
        accepted(objects, made)


def test_the_jobs_of_trainings_are_accepted_whole(objects: RemoteObjects) -> None:
    job = training("one", {"catchment.io/site": "a"})
    job["metadata"]["namespace"] = "default"
    accepted(objects, job)


def test_what_is_no_field_or_no_value_is_not_accepted(objects: RemoteObjects) -> None:
    """So that the tests above can fail."""
    made = next(each for each in CASES["kubernetes-onnx-canary"] if each["kind"] == "Deployment")
    with pytest.raises(Problem, match="replica"):
        accepted(objects, {**made, "spec": {**made["spec"], "replica": 1}})
    service = CASES["kserve-standard"][0]
    predictor = {**service["spec"]["predictor"], "canaryTrafficPercent": 150}
    with pytest.raises(Problem, match="canaryTrafficPercent"):
        accepted(objects, {**service, "spec": {"predictor": predictor}})


def accepted(objects: RemoteObjects, found: Object) -> None:
    """Have the server say what it would make of an object: it must be no less."""
    sent = as_of_1_20(found)
    resource = SETS if sent["kind"] == SETS.kind else objects.resource(sent["kind"])
    where = path(resource, sent["metadata"].get("namespace", ""), sent["metadata"]["name"])
    query = "?dryRun=All&fieldManager=catchment&force=true"
    answer = objects.ask("PATCH", where + query, sent, "application/apply-patch+yaml")
    assert not (lost := list(_lost(sent, answer, ""))), f"{sent['kind']} {where}: {lost}"


def _lost(sent: Any, kept: Any, at: str) -> Iterator[str]:
    """Where what was kept says less than what was sent, or something else."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key, value in sent.items():
            if key in kept:
                yield from _lost(value, kept[key], f"{at}.{key}")
            elif value not in ({}, [], None, ""):
                yield f"{at}.{key}"
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for number, (one, other) in enumerate(zip(sent, kept, strict=True)):
            yield from _lost(one, other, f"{at}[{number}]")
    elif sent != kept:
        yield f"{at}: {sent!r} became {kept!r}"


def _have(objects: RemoteObjects, namespace: Object) -> None:
    resource = objects.resource("namespaces")
    if objects.find(resource, "", namespace["metadata"]["name"]) is None:
        objects.create(resource, "", namespace)

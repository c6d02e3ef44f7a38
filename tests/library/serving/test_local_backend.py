"""The local backend with a serving host, over both kinds of store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catchment.catalog import manager
from catchment.catalog.audit import Actor
from catchment.errors import InvalidField, NotFound, WrongState
from catchment.serving.workload import ServingKey
from tests.library.serving.backend_contract import BackendContract, workload
from tests.library.serving.local_hosts import LocalHarness, host


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def harness(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalHarness]:
    folder = tmp_path_factory.mktemp("local")
    url = f"sqlite:///{folder / 'store.db'}"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("new_database")())
    made = LocalHarness(folder / "home", url, folder)
    try:
        with host(made):
            yield made
    finally:
        made.close()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[LocalHarness]:
    """A store for which no host works."""
    made = LocalHarness(tmp_path / "home", f"sqlite:///{tmp_path / 'store.db'}", tmp_path)
    yield made
    made.close()


class TestLocalBackend(BackendContract):
    """The contract."""


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("SavedModel", "convert it to ONNX with a ModelJob"),
        ("TorchScript", "convert it to ONNX with a ModelJob"),
        ("PMML", "nor can it be converted to it, as can SavedModel"),
        ("", "of no known format"),
    ],
)
def test_another_format_is_refused_with_the_way_to_onnx(idle: LocalHarness, format: str, words: str) -> None:
    wanted = replace(workload(idle), model=idle.register(b"x", format))
    with pytest.raises(InvalidField, match=words) as refused:
        idle.backend.check(wanted)
    assert refused.value.field == "model"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"runtime": "triton"}, "runtime"),
        ({"replicas": 33}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "resources.limits.nvidia.com/gpu"),
        ({"resources": {"requests": {"amd.com/gpu": "1"}}}, "resources.requests.amd.com/gpu"),
        ({"resources": {"limits": {"cpu": "many"}}}, "resources.limits.cpu"),
        ({"resources": {"limits": {"memory": "0"}}}, "resources.limits.memory"),
        ({"server": {"queue": -1}}, "server.queue"),
        ({"server": {"no_such_bound": 1}}, "server.no_such_bound"),
    ],
)
def test_what_this_machine_does_not_have_is_refused_by_its_field(
    idle: LocalHarness, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        idle.backend.check(replace(workload(idle), **changes))  # type: ignore[arg-type]
    assert refused.value.field == field


def test_without_a_host_it_waits_and_says_what_for(idle: LocalHarness) -> None:
    wanted = workload(idle)
    idle.backend.apply(wanted)
    seen = idle.backend.observe(wanted)
    assert seen.state == "starting"
    assert "no serving host works for this store" in seen.message
    (pod,) = idle.backend.pods(wanted.serving)
    assert pod["status"]["phase"] == "Pending"
    assert idle.backend.log_lines("default", pod["metadata"]["name"], "", 5) == []
    assert idle.backend.remove_all(wanted.serving)


def test_a_version_is_not_deleted_while_it_is_served(idle: LocalHarness) -> None:
    wanted = workload(idle)
    idle.backend.apply(wanted)
    with pytest.raises(WrongState, match=f"is served by '{wanted.serving.name}'"):
        manager.delete_by_id(idle.store, wanted.model.model_id, Actor())
    idle.backend.remove(wanted.serving, [wanted.key])
    manager.delete_by_id(idle.store, wanted.model.model_id, Actor())
    with pytest.raises(NotFound):
        idle.backend.apply(wanted)


def test_other_bytes_than_those_that_were_resolved_are_not_served(idle: LocalHarness) -> None:
    wanted = workload(idle)
    other = replace(wanted, model=replace(wanted.model, digest=f"sha256:{'0' * 64}"))
    with pytest.raises(WrongState, match="has other bytes now"):
        idle.backend.apply(other)


@pytest.mark.parametrize("weights", [{"a": 50}, {"a": 50, "b": 51}, {"a": 110, "b": -10}])
def test_weights_are_percent(idle: LocalHarness, weights: dict[str, int]) -> None:
    with pytest.raises(InvalidField, match="weights: must be percentages, 100 together"):
        idle.backend.route(idle.serving(), weights)


def test_a_serving_that_is_gone_has_no_traffic(idle: LocalHarness) -> None:
    gone = ServingKey("default", "gone", "no-such-uid")
    idle.backend.route(gone, {})
    assert idle.backend.routed(gone) == {}
    with pytest.raises(NotFound, match="serving 'gone' does not exist"):
        idle.backend.route(gone, {"a": 100})

"""What a site keeps from round to round, and for how long."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from catchment.site.client_states import ClientStates
from catchment.wire.messages import Blob, WorkOrder

STATE = "client_state.safetensors"


def order_of(work_id: str, client_state: str | None = None, **changes: Any) -> WorkOrder:
    values: dict[str, Any] = {
        "work_id": work_id, "kind": "train", "namespace": "default", "job_id": "job", "run": 1, "round": 1,
        "attempt": 0, "runtime": "pytorch", "weights": Blob(digest="sha256:" + "0" * 64, size_bytes=1),
        "seed": 1, "timeout_s": 60.0, "client_state": client_state,
    }  # fmt: skip
    return WorkOrder(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.fixture
def states(folder: Path) -> ClientStates:
    return ClientStates(folder)


def keep(states: ClientStates, work_id: str, text: str = "", **changes: Any) -> None:
    path = Path(str(states._folder) + "-new")
    path.write_text(text or work_id)
    states.keep(order_of(work_id, **changes), {STATE: path})


def taken(states: ClientStates, client_state: str | None, tmp_path: Path, **changes: Any) -> str | None:
    target = tmp_path / "task-state"
    target.unlink(missing_ok=True)
    if not states.take(order_of("next", client_state, **changes), {STATE: target}):
        assert not target.exists()
        return None
    return target.read_text()


def test_a_state_is_found_by_its_work_also_after_a_restart(
    states: ClientStates, folder: Path, tmp_path: Path
) -> None:
    keep(states, "a")
    assert taken(ClientStates(folder), "a", tmp_path) == "a"
    assert taken(states, "a", tmp_path) == "a"
    assert not (tmp_path / "task-state").stat().st_mode & 0o222


@pytest.mark.parametrize(
    "changes", [{"namespace": "other"}, {"job_id": "other"}, {"run": 2}, {"client_state": "b"}]
)
def test_no_other_job_run_or_work_gets_it(
    states: ClientStates, tmp_path: Path, changes: dict[str, Any]
) -> None:
    keep(states, "a")
    assert taken(states, changes.pop("client_state", "a"), tmp_path, **changes) is None
    assert taken(states, None, tmp_path) is None


def test_only_what_is_older_than_the_named_one_goes(states: ClientStates, tmp_path: Path) -> None:
    for work in ("a", "b", "late", "c"):
        keep(states, work)
    assert taken(states, "b", tmp_path) == "b"
    assert taken(states, "a", tmp_path) is None
    # An evaluation that names the same work comes beside the training whose fate is open.
    assert taken(states, "b", tmp_path) == "b"
    assert taken(states, "c", tmp_path) == "c"
    for gone in ("b", "late"):
        assert taken(states, gone, tmp_path) is None


def test_a_new_run_ends_the_earlier_ones(states: ClientStates, folder: Path, tmp_path: Path) -> None:
    keep(states, "a")
    keep(states, "b", run=2)
    assert taken(states, "b", tmp_path, run=2) == "b"
    assert taken(states, "a", tmp_path) is None


def test_the_same_work_done_again_replaces_its_state(states: ClientStates, tmp_path: Path) -> None:
    keep(states, "a", "first")
    keep(states, "a", "second")
    assert taken(states, "a", tmp_path) == "second"


def test_what_a_crash_left_half_written_is_no_state(
    states: ClientStates, folder: Path, tmp_path: Path
) -> None:
    keep(states, "a")
    (run,) = folder.glob("*/*")
    (run / ".00000002-b").mkdir()
    assert taken(states, "b", tmp_path) is None
    keep(states, "b")
    assert taken(states, "b", tmp_path) == "b"
    assert not list(run.glob(".*"))


def test_states_of_quiet_jobs_go_after_a_while(folder: Path, tmp_path: Path) -> None:
    states = ClientStates(folder, kept_s=3600)
    keep(states, "a")
    keep(states, "b", job_id="other")
    (quiet,) = [path for path in folder.glob("*/*") if list(path.glob("*-a"))]
    os.utime(quiet, (time.time() - 3601,) * 2)
    keep(states, "c", job_id="other")
    assert taken(states, "a", tmp_path) is None
    assert taken(states, "b", tmp_path, job_id="other") == "b"
    assert len(list(folder.iterdir())) == 1


def test_the_oldest_states_go_when_there_is_no_room(folder: Path, tmp_path: Path) -> None:
    states = ClientStates(folder, max_bytes=250)
    for number in range(4):
        keep(states, f"w{number}", "x" * 100)
    assert [taken(states, f"w{number}", tmp_path) is not None for number in range(4)] == [
        False, False, True, True,
    ]  # fmt: skip
    keep(states, "huge", "x" * 1000)
    assert taken(states, "huge", tmp_path) == "x" * 1000


def test_ids_that_are_no_file_names(states: ClientStates, tmp_path: Path) -> None:
    keep(states, "../../up", job_id="../job", namespace="..")
    assert taken(states, "../../up", tmp_path, job_id="../job", namespace="..") == "../../up"
    assert {path.name for path in tmp_path.iterdir()} == {"states", "task-state"}

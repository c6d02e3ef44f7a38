"""The containers' own program: which code it ends with, and what it takes from one that is not trusted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catchment import access
from catchment.model_jobs import manager, steps
from catchment.model_jobs.claim import claim
from catchment.model_jobs.kubernetes import worker
from catchment.model_jobs.working import Task
from tests.conftest import free_port
from tests.library.model_jobs.conftest import ANNA, small_onnx, upload
from tests.library.model_jobs.kubernetes.conftest import BODY, Cluster

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's folders; nobody answers it, and it does not wait long for that."""
    root = tmp_path / "pod"
    (root / "work/input").mkdir(parents=True)
    (root / "work/output").mkdir()
    (root / "token").write_text("catchment_0000000000000000_x\n")
    environ = {
        "CATCHMENT_WORK_ROOT": str(root),
        "CATCHMENT_ENVIRONMENTS": str(root / "environments"),
        "CATCHMENT_WORK_URL": NOBODY,
        "CATCHMENT_WORK": f"{'0' * 32}/extract",
        "CATCHMENT_WORK_TOKEN_FILE": str(root / "token"),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    return root / "work"


def ends(mode: str) -> int:
    with pytest.raises(SystemExit) as ended:
        worker.main([mode])
    return int(str(ended.value.code))


def put_task(place: Path, **values: Any) -> None:
    task = Task(**{"kind": "extract", "format": "ONNX", **values})
    (place / "input" / "task.json").write_text(json.dumps(task.to_json()))
    (place / "input" / "model").mkdir(exist_ok=True)


def outcome(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "output" / "outcome.json").read_text())
    return found


def test_without_an_api_nothing_can_be_fetched_or_delivered(place: Path) -> None:
    assert ends("fetch") == 17
    (place / "output" / "outcome.json").write_text(json.dumps({"found": {}}))
    assert ends("deliver") == 21


def test_a_server_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        monkeypatch.setenv("CATCHMENT_WORK_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert ends("fetch") == 17


def test_with_a_real_api_tokens_count_and_disks_must_take_the_files(
    real: Cluster, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert real.server is not None
    monkeypatch.setenv("CATCHMENT_WORK_URL", real.server.url)
    assert ends("fetch") == 16
    upload(real.store, "v1", small_onnx(tmp_path / "net.onnx"))
    manager.create(real.store, "default", {"metadata": {"name": "job"}, "spec": BODY}, ANNA)
    held = claim(real.store, "default", "job", flow_run_id="run", attempt=1)
    steps.pull(real.store, held)
    token = access.create_worker_token(real.store, held.uid, "extract")
    Path(os.environ["CATCHMENT_WORK_TOKEN_FILE"]).write_text(token)
    monkeypatch.setenv("CATCHMENT_WORK", f"{held.uid}/extract")
    (place / "input" / "model").write_text("a file where a folder is to be")
    assert ends("fetch") == 18
    (place / "input" / "model").unlink()
    worker.main(["fetch"])
    assert (place / "input" / "model" / "net.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()
    worker.main(["run"])
    worker.main(["deliver"])
    assert steps.extract(real.store, held)["signature"]["layers"] == {"Gemm": 1, "Relu": 1}


def test_a_task_that_fails_writes_its_reason_and_ends_well(place: Path) -> None:
    put_task(place)
    worker.main(["run"])
    problem = outcome(place)["problem"]
    assert problem["type"] == "ExtractionFailed"
    assert "ONNX" in problem["message"] or "onnx" in problem["message"]


def test_a_conversion_without_its_environment_says_so_and_builds_none(place: Path) -> None:
    put_task(place, kind="convert", format="MXNetParams", target="ONNX")
    worker.main(["run"])
    assert outcome(place)["problem"]["type"] in ("ConversionFailed", "BackendUnavailable")
    assert not (place.parent / "environments").exists()


def test_an_outcome_that_cannot_be_written_has_its_code(place: Path) -> None:
    put_task(place)
    (place / "output" / "outcome.json").mkdir()
    assert ends("run") == 20


def test_a_program_that_breaks_has_failed_its_task(place: Path) -> None:
    (place / "input" / "task.json").write_text("no JSON")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "catchment.model_jobs.kubernetes.worker", "run"]
    broken = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert broken.returncode == 19
    assert "JSONDecodeError" in broken.stdout


@pytest.mark.parametrize(
    "harm", ["outcome is a link", "a link is among the files", "a folder is a link", "no object"]
)
def test_links_of_an_executor_are_not_followed(place: Path, tmp_path: Path, harm: str) -> None:
    """Were they, its model could make the publisher send files that only the publisher may read."""
    output, made = place / "output", place / "output" / "made"
    made.mkdir()
    (made / "model.onnx").write_bytes(b"x")
    told = output / "outcome.json"
    told.write_text(json.dumps({"found": {}}))
    if harm == "outcome is a link":
        told.rename(tmp_path / "elsewhere.json")
        told.symlink_to(tmp_path / "elsewhere.json")
    elif harm == "a link is among the files":
        (made / "token").symlink_to(os.environ["CATCHMENT_WORK_TOKEN_FILE"])
    elif harm == "a folder is a link":
        (made / "more").symlink_to(tmp_path)
    else:
        told.write_text("[]")
    assert ends("deliver") == 20


def test_made_itself_as_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("k")
    (place / "output" / "made").symlink_to(tmp_path / "secret")
    (place / "output" / "outcome.json").write_text(json.dumps({"found": {}}))
    assert ends("deliver") == 20


def test_the_worker_needs_neither_database_nor_framework() -> None:
    """So that its image can be small."""
    code = (
        "import sys, catchment.model_jobs.kubernetes.worker as w; "
        "heavy = {'sqlalchemy', 'prefect', 'fastapi', 'kubernetes', 'onnx', 'onnxruntime', 'torch', 'h5py'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"

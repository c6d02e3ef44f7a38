"""The SDK inside and outside of a task: data sets, parameters, files, metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import SdkError

MakeTask = Callable[..., Any]

NEED_A_TASK: dict[str, Callable[[], Any]] = {
    "load_weights": lambda: fl.load_weights(torch.nn.Linear(1, 1)),
    "commit_weights": lambda: fl.commit_weights(torch.nn.Linear(1, 1)),
    "commit_metrics": lambda: fl.commit_metrics({}),
    "commit": lambda: fl.commit({}),
    "get_dataset_path": lambda: fl.get_dataset_path("a"),
    "get_parameter": lambda: fl.get_parameter("a"),
    "get_parameters": fl.get_parameters,
    "put_parameter": lambda: fl.put_parameter("a", 1),
    "put_parameters": lambda: fl.put_parameters({}),
    "get_file": lambda: fl.get_file("a"),
    "put_file": lambda: fl.put_file("a", b""),
    "create_optimizer": fl.create_optimizer,
    "create_loss": fl.create_loss,
    "feddc_loss": lambda: fl.feddc_loss(None),
    "task": fl.task,
    "seed": fl.seed,
}


def test_every_function_is_tried_outside_of_a_task() -> None:
    assert set(NEED_A_TASK) == set(fl.__all__) - {"save_weights"}


@pytest.mark.parametrize("value", [None, "", "/nowhere/task.json"])
@pytest.mark.parametrize("call", NEED_A_TASK.values(), ids=NEED_A_TASK.keys())
def test_outside_of_a_task_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any], value: str | None
) -> None:
    monkeypatch.delenv("CATCHMENT_TASK", raising=False)
    if value is not None:
        monkeypatch.setenv("CATCHMENT_TASK", value)
    with pytest.raises(SdkError, match=r"(?s)CATCHMENT_TASK.*python -m catchment\.sdk\.dry_run"):
        call()


def test_the_task_is_what_the_site_wrote(make_task: MakeTask) -> None:
    make_task(parameters={"a": 1})
    assert (fl.task().job_id, fl.task().round, fl.seed()) == ("job", 2, 11)
    assert fl.get_parameter("a") == 1
    assert fl.get_parameter("b") is None
    assert fl.get_parameters() == {"a": 1}


def test_a_task_file_of_another_version_is_refused(make_task: MakeTask) -> None:
    task = make_task()
    (task.folder / "task.json").write_text('{"kind": "train", "new": 1}')
    with pytest.raises(SdkError, match="of this version"):
        fl.task()


def test_an_unknown_data_set_names_the_known_ones(make_task: MakeTask) -> None:
    make_task(datasets={"digits": "/data/digits", "letters": "/data/letters"})
    assert fl.get_dataset_path("digits") == "/data/digits"
    with pytest.raises(SdkError, match="'faces'; its data sets: digits, letters") as caught:
        fl.get_dataset_path("faces")
    assert isinstance(caught.value, KeyError)


def test_put_parameter_merges_and_put_parameters_replaces(make_task: MakeTask) -> None:
    path = make_task().folder / "parameters.json"
    fl.put_parameter("a", np.float32(0.5))
    fl.put_parameter("b", [1, np.int64(2)])
    assert json.loads(path.read_bytes()) == {"a": 0.5, "b": [1, 2]}
    fl.put_parameters({"c": {"d": torch.tensor([1.0, 2.0])}})
    assert json.loads(path.read_bytes()) == {"c": {"d": [1.0, 2.0]}}


@pytest.mark.parametrize("value", [object(), float("nan"), {1: 2}, b"bytes", 1j, {"deep": [float("inf")]}])
def test_parameters_that_json_cannot_hold_are_refused(make_task: MakeTask, value: Any) -> None:
    task = make_task()
    with pytest.raises(SdkError, match="parameter"):
        fl.put_parameter("a", value)
    assert not (task.folder / "parameters.json").exists()


def test_files_come_and_go(make_task: MakeTask) -> None:
    task = make_task()
    (task.folder / "prepared" / "vocabulary.txt").write_bytes(b"words")
    assert fl.get_file("vocabulary.txt") == b"words"
    assert fl.get_file("vocabulary.txt", lambda path, mode: Path(path).open(mode).close() or path, mode="rb")
    fl.put_file("a.txt", "text")
    fl.put_file("b.bin", b"\x00")
    fl.put_file("c.npy", np.ones(2), lambda file, content, scale: np.save(file, content * scale), scale=2)
    assert {item.name for item in (task.folder / "result").iterdir()} == {"a.txt", "b.bin", "c.npy"}
    assert (task.folder / "result" / "a.txt").read_bytes() == b"text"
    assert np.load(task.folder / "result" / "c.npy").tolist() == [2, 2]


def test_a_file_that_was_not_sent_names_those_that_were(make_task: MakeTask) -> None:
    task = make_task()
    (task.folder / "prepared" / "b").write_bytes(b"")
    with pytest.raises(SdkError, match="no file 'a'; it sent: b") as caught:
        fl.get_file("a")
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../a", "/etc/passwd", "a\\b", "a\0b", "x" * 300, None]
)
def test_only_plain_file_names_are_taken(make_task: MakeTask, name: Any) -> None:
    make_task()
    with pytest.raises(SdkError, match="no plain file name"):
        fl.get_file(name)
    with pytest.raises(SdkError, match="no plain file name"):
        fl.put_file(name, b"")


def test_a_failing_writer_leaves_no_file(make_task: MakeTask) -> None:
    task = make_task()

    def fails(file: Any, content: Any) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fl.put_file("a", 1, fails)
    with pytest.raises(SdkError, match="give f="):
        fl.put_file("a", 1)
    assert list((task.folder / "result").iterdir()) == []


def test_metrics_become_plain_numbers_and_the_last_call_wins(make_task: MakeTask) -> None:
    path = make_task().folder / "metrics.json"
    fl.commit_metrics({"sample_num": 1})
    fl.commit_metrics(
        {
            "sample_num": np.int64(8),
            "loss": torch.tensor(0.5, requires_grad=True),
            "accuracy": np.float32(0.25),
            "vector": np.arange(2),
            "one": torch.tensor([3]),
            "anything": "text",
            "none": None,
            "flag": np.bool_(True),
        }
    )
    assert json.loads(path.read_bytes()) == {
        "sample_num": 8, "loss": 0.5, "accuracy": 0.25, "vector": [0, 1], "one": 3,
        "anything": "text", "none": None, "flag": True,
    }  # fmt: skip


@pytest.mark.parametrize("number", [0, -1, 8.0, "8", True, None])
def test_a_wrong_sample_num_warns_and_is_kept(make_task: MakeTask, number: Any) -> None:
    path = make_task().folder / "metrics.json"
    with pytest.warns(UserWarning, match="sample_num must be an integer > 0"):
        fl.commit_metrics({"sample_num": number})
    assert json.loads(path.read_bytes()) == {"sample_num": number}


def test_metrics_of_wrong_types_warn_and_those_not_finite_are_left_out(make_task: MakeTask) -> None:
    path = make_task().folder / "metrics.json"
    with pytest.warns(UserWarning, match="'accuracy' must be a number"):
        fl.commit_metrics({"accuracy": "high"})
    with pytest.warns(UserWarning, match="'loss' is not finite and is left out: nan"):
        fl.commit_metrics({"loss": torch.tensor(float("nan")), "sample_num": 3})
    assert json.loads(path.read_bytes()) == {"sample_num": 3}
    with pytest.raises(SdkError, match=r"metrics\.x.*object"):
        fl.commit_metrics({"x": object()})
    with pytest.raises(SdkError, match="dict"):
        fl.commit_metrics([1])  # type: ignore[arg-type]


def test_other_ranks_write_nothing(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task({"weight": np.ones((1, 1), np.float32)})
    before = set(task.folder.rglob("*"))
    monkeypatch.setenv("RANK", "1")
    fl.commit({"sample_num": 1}, torch.nn.Linear(1, 1, bias=False))
    fl.put_parameter("a", 1)
    fl.put_parameters({"a": 1})
    fl.put_file("a", b"")
    assert set(task.folder.rglob("*")) == before
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(SdkError, match="RANK is 'first'"):
        fl.commit_metrics({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [({}, "configures no"), ({"loss": {"name": "x"}, "optimizer": {"name": "x"}}, "'x' is not known")],
)
def test_without_an_algorithm_the_script_uses_its_own(make_task: MakeTask, fields: Any, message: str) -> None:
    make_task(**fields)
    with pytest.warns(UserWarning, match=f"optimizer.*{message}|{message} optimizer"):
        assert fl.create_optimizer() is None
    with pytest.warns(UserWarning, match=f"loss.*{message}|{message} loss"):
        assert fl.create_loss() is None


def test_importing_the_sdk_loads_no_framework_and_nothing_of_the_server() -> None:
    code = """
        import sys, catchment.sdk
        heavy = {"torch", "keras", "tensorflow", "jax", "h5py", "safetensors", "sqlalchemy", "fsspec",
                 "prefect", "fastapi", "httpx", "rich", "click", "pydantic_settings"}
        print(sorted(heavy & set(sys.modules)))
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == "[]"

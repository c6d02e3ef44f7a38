"""The dry run of a training script."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import catchment.sdk as fl
from catchment.errors import BadTensors, ScriptFailed, SdkError
from catchment.sdk.dry_run import DryRun, main, run

os.environ.setdefault("KERAS_BACKEND", "torch")

PYTORCH = """
    import argparse
    import numpy as np
    import torch
    import beside
    import catchment.sdk as fl

    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    options = parser.parse_args()
    data = np.load(fl.get_dataset_path("points"))
    torch.manual_seed(fl.seed())
    model = torch.nn.Linear(4, 2)
    fl.load_weights(model)
    if fl.task().kind == "evaluate":
        fl.commit_metrics({"sample_num": len(data), "accuracy": 0.5, "lr": options.lr})
    else:
        optimizer = torch.optim.SGD(model.parameters(), options.lr)
        loss = model(torch.from_numpy(data)).square().mean()
        loss.backward()
        optimizer.step()
        fl.put_file("note.txt", "done")
        fl.commit({"sample_num": len(data), "loss": loss, "lr": options.lr}, model)
"""


def write(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(script))
    return path


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, Any]:
    """Fields of a dry run that passes."""
    np.save(tmp_path / "points.npy", np.ones((8, 4), np.float32))
    torch.save(torch.nn.Linear(4, 2).state_dict(), tmp_path / "init.pt")
    write(tmp_path / "scripts" / "beside.py", "")
    return {
        "script": write(tmp_path / "scripts" / "train.py", PYTORCH),
        "weights": tmp_path / "init.pt",
        "runtime": "pytorch",
        "datasets": {"points": tmp_path / "points.npy"},
        "timeout_s": 120.0,
    }


def test_a_good_script_is_reported(wanted: dict[str, Any], tmp_path: Path) -> None:
    report = run(DryRun(**wanted, arguments=["--lr", "0.25"]), tmp_path / "kept")
    assert (report.num_tensors, report.num_elements) == (2, 10)
    assert report.update_norm > 0
    assert report.metrics["sample_num"] == 8
    assert report.metrics["lr"] == 0.25
    assert report.files == ("note.txt",)
    assert report.remarks == ()
    assert (tmp_path / "kept" / "update.safetensors").exists()
    with pytest.raises(SdkError, match="not an empty folder"):
        run(DryRun(**wanted), tmp_path / "kept")


def test_the_command_ends_with_0_and_a_summary(wanted: dict[str, Any]) -> None:
    done = subprocess.run(
        [
            sys.executable, "-W", "error", "-m", "catchment.sdk.dry_run", "--script", str(wanted["script"]),
            "--weights", str(wanted["weights"]), "--runtime", "pytorch",
            "--dataset", f"points={wanted['datasets']['points']}", "--evaluate", "--", "--lr", "0.5",
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "dry run passed: evaluate" in done.stdout
    assert "accuracy 0.5, lr 0.5" in done.stdout


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("pass", "committed no weights"),
        ("import time; time.sleep(60)", "ended after 0.5 s"),
    ],
)
def test_a_script_that_fails_is_an_error(wanted: dict[str, Any], script: str, problem: str) -> None:
    write(wanted["script"], script)
    if "sleep" in script:
        wanted["timeout_s"] = 0.5
    with pytest.raises(ScriptFailed, match=problem):
        run(DryRun(**wanted))


def test_an_evaluation_without_metrics_is_an_error(wanted: dict[str, Any]) -> None:
    write(wanted["script"], "pass")
    with pytest.raises(ScriptFailed, match="committed no metrics"):
        run(DryRun(**wanted, evaluate=True))


def test_what_may_not_be_meant_is_remarked(wanted: dict[str, Any]) -> None:
    write(
        wanted["script"],
        """
        import torch, catchment.sdk as fl
        model = torch.nn.Linear(4, 2)
        fl.load_weights(model)
        fl.commit({"loss": 1.0}, model)
        """,
    )
    remarks = " ".join(run(DryRun(**wanted)).remarks)
    assert "no sample_num" in remarks
    assert "zero everywhere" in remarks


def test_an_update_that_was_written_past_the_sdk_is_checked(wanted: dict[str, Any]) -> None:
    write(
        wanted["script"],
        """
        import os, pathlib, numpy as np
        from catchment.models.tensors import write_tensors
        folder = pathlib.Path(os.environ["CATCHMENT_TASK"]).parent
        write_tensors(folder / "update.safetensors", {"x": np.ones(1)})
        """,
    )
    with pytest.raises(BadTensors, match="missing: weight, bias"):
        run(DryRun(**wanted))


@pytest.mark.parametrize(
    "change",
    [
        {"script": Path("/nowhere/train.py")},
        {"weights": Path("/nowhere/init.pt")},
        {"datasets": {"points": Path("/nowhere/points")}},
    ],
)
def test_what_is_not_there_is_named(wanted: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(SdkError, match="/nowhere"):
        run(DryRun(**(wanted | change)))


def test_the_command_ends_with_1_and_the_reason(
    wanted: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    write(wanted["script"], "raise ValueError('no such thing')")
    arguments = [
        "--script",
        str(wanted["script"]),
        "--weights",
        str(wanted["weights"]),
        "--runtime",
        "pytorch",
    ]
    assert main(arguments) == 1
    error = capfd.readouterr().err
    assert "no such thing" in error
    assert "dry run failed: train.py ended with exit code 1" in error


@pytest.mark.parametrize("text", ["points", "=path", "points="])
def test_a_data_set_is_a_name_and_a_path(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--script", "a", "--weights", "b", "--runtime", "pytorch", "--dataset", text])
    assert "is not NAME=PATH" in capsys.readouterr().err


def test_the_scripts_of_the_documentation_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "training_scripts.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "scripts"
    for name, code in blocks:
        write(folder / name, code)
    names = {name for name, _ in blocks}
    assert names == {"train_pytorch.py", "init_pytorch.py", "train_keras.py", "init_keras.py"}
    rng = np.random.default_rng(0)
    data = tmp_path / "digits"
    data.mkdir()
    for part in ("train", "test"):
        np.savez(data / f"{part}.npz", x=rng.random((64, 64), np.float32), y=rng.integers(0, 10, 64))
    monkeypatch.chdir(folder)
    for runtime in ("pytorch", "keras"):
        runpy.run_path(f"init_{runtime}.py", run_name="__main__")
        for evaluate in (False, True):
            report = run(
                DryRun(
                    folder / f"train_{runtime}.py",
                    folder / "init.safetensors",
                    runtime,  # type: ignore[arg-type]
                    {"digits": data},
                    evaluate=evaluate,
                    arguments=[] if evaluate else ["--epochs", "2"],
                    timeout_s=120.0,
                )
            )
            assert report.remarks == ()
            assert report.metrics["sample_num"] == 64


ALGORITHM = """
    import torch, catchment.sdk as fl
    model = torch.nn.Linear(4, 2)
    fl.load_weights(model)
    optimizer = fl.create_optimizer(params=model.parameters()) or torch.optim.SGD(model.parameters(), 0.1)
    loss = fl.create_loss(train_model=model, origin_loss_func=torch.nn.MSELoss()) or torch.nn.MSELoss()
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(torch.ones(1, 4)), torch.ones(1, 2)).backward()
        optimizer.step()
    fl.commit({"sample_num": 1}, model, optimizer)
"""


@pytest.mark.parametrize(
    ("option", "value", "num_tensors"),
    [
        ("--optimizer", '{"name": "fedprox", "params": {"mu": 0.1}}', 2),
        ("--optimizer", "scaffold", 4),
        ("--loss", '{"name": "feddc", "params": {"lr": 0.1}}', 4),
        ("--strategy", "fednova", 3),
        ("--strategy", '{"name": "fedavg", "params": {"local": ["bias"]}}', 1),
    ],
)
def test_algorithms_of_a_job_are_tried_from_a_state_of_zeros(
    wanted: dict[str, Any], capfd: pytest.CaptureFixture[str], option: str, value: str, num_tensors: int
) -> None:
    write(wanted["script"], ALGORITHM)
    arguments = ["--script", str(wanted["script"]), "--weights", str(wanted["weights"])]
    assert main([*arguments, "--runtime", "pytorch", option, value]) == 0, capfd.readouterr()
    assert f"update   {num_tensors} tensors" in capfd.readouterr().out


def test_an_algorithm_that_is_no_json_is_an_error(
    wanted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--script", str(wanted["script"]), "--weights", str(wanted["weights"])]
    assert main([*arguments, "--runtime", "pytorch", "--optimizer", '{"mu": 1}']) == 1
    assert "no JSON object of name and params" in capsys.readouterr().err


def test_saved_weights_are_initial_weights(tmp_path: Path, wanted: dict[str, Any]) -> None:
    fl.save_weights(torch.nn.Linear(4, 2), tmp_path / "init.safetensors")
    wanted["weights"] = tmp_path / "init.safetensors"
    assert run(DryRun(**wanted)).num_tensors == 2

"""The examples as a person runs them, each on a system of its own, with fewer rounds.

The example of differential privacy needs no system: tests/library/privacy/test_example.py runs it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, users_environment

SYSTEMS = {
    "fedprox": ["FedAvg", "FedProx, mu = 0.1"],
    "scaffold": ["FedAvg", "SCAFFOLD"],
    "lora": ["adapters of rank 4"],
    "ssa": ["in the open", "masked"],
}


def told(output: Path, *command: str) -> str:
    """What an example prints; it must end well and leave a picture."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=users_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (picture,) = output.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    return done.stdout


def test_each_example_with_a_system_is_run() -> None:
    assert set(SYSTEMS) == {path.parent.name for path in ROOT.glob("examples/*/run.py")} - {"dp"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_example_runs_its_jobs_and_draws_their_accuracies(tmp_path: Path, name: str) -> None:
    said = told(tmp_path, f"examples/{name}/run.py", "--rounds", "2", "--output", str(tmp_path))
    found = dict(re.findall(r"^(.+): accuracy ([\d.]+) after 2 rounds$", said, re.MULTILINE))
    assert list(found) == SYSTEMS[name]
    assert all(float(accuracy) > 0.1 for accuracy in found.values())
    if name == "ssa":  # the same seeds, and a sum that is exact but for its fixed point
        assert float(found["masked"]) == pytest.approx(float(found["in the open"]), abs=0.01)


def test_the_protocol_of_secure_aggregation_is_shown_without_a_system(tmp_path: Path) -> None:
    said = told(tmp_path, "examples/ssa/sums.py", "--sites", "4", "--plot", str(tmp_path / "sums.png"))
    assert "bit for bit" in said

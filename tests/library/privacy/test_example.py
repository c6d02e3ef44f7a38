"""The example of differential privacy: its job is one, its script runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from catchment.jobs.privacy import plan_of
from catchment.jobs.spec import parse_job

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "dp"


def test_the_job_is_valid_and_has_a_guarantee() -> None:
    plan = plan_of(parse_job(json.loads((FOLDER / "job.json").read_text())))
    assert plan is not None
    assert not plan.missing
    assert plan.epsilon_budget == 8.0


def test_the_script_prints_its_table_and_saves_its_plot(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--rounds", "3", "--output", str(tmp_path / "dp.png")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    lines = [line.split() for line in told.splitlines() if line.strip()[:1].isdigit()][1:]
    assert [line[0] for line in lines] == ["0", "4", "8", "16", "32"]
    assert lines[0][2] == "inf"
    assert float(lines[0][3]) > 0.7
    assert float(lines[1][2]) > float(lines[-1][2]) > 0
    assert (tmp_path / "dp.png").read_bytes().startswith(b"\x89PNG")

"""The README: its commands exist, and its worked example is well formed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from catchment.cli.main import COMMANDS
from catchment.jobs.spec import parse_job

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))


def documents(name: str) -> list[str]:
    """What the example writes into a file."""
    return re.findall(rf"cat > \S*{re.escape(name)} <<'EOF'\n(.*?)\nEOF\n", BLOCKS, re.DOTALL)


def test_every_command_is_in_the_table() -> None:
    table = README.split("## Commands")[1].split("## ")[0]
    for name in COMMANDS:
        assert f"`catchment {name}" in table


def test_the_examples_shell_lines_script_and_job_are_well_formed() -> None:
    subprocess.run(["bash", "-n"], input=BLOCKS, text=True, check=True)
    (script,), (config,), (job,) = documents("train.py"), documents("config.json"), documents("job.json")
    compile(script, "train.py", "exec")
    assert set(json.loads(config)) == {"train", "evaluate"}
    assert parse_job(json.loads(job)).id == "first"


def test_the_job_of_the_digits_example_is_valid() -> None:
    job = json.loads((ROOT / "examples" / "digits" / "job.json").read_text())
    assert parse_job(job).hyper_parameters.max_round_num == 10


def test_every_file_that_the_readme_links_to_is_named_once_and_for_all() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing

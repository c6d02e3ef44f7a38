"""Scripts in this process: each client finds what a fresh process would have, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch  # noqa: F401 - as in a worker: what is loaded before the first script can be seeded

from catchment.errors import ScriptFailed
from catchment.simulation.script import MAX_OUTPUT, Call, Tail, run


def ran(
    folder: Path, source: str, *, timeout_s: float = 20, seed: int = 1, arguments: tuple[str, ...] = ()
) -> str:
    script = folder / "train.py"
    script.write_text(source)
    output = Tail(MAX_OUTPUT)
    try:
        run(Call(script, arguments, folder, {"GIVEN": "yes"}, seed, timeout_s), output)
    except ScriptFailed as error:
        return f"{output.text()}FAILED {error}"
    return output.text()


def test_arguments_environment_and_folder_are_the_calls(tmp_path: Path) -> None:
    told = ran(
        tmp_path,
        "import os, sys; print(sys.argv[1:], os.environ['GIVEN'], os.getcwd())",
        arguments=("-v", "2"),
    )
    assert told == f"['-v', '2'] yes {tmp_path}\n"


def inherited() -> set[bytes]:
    """The variables that programs get which are started from here without a word."""
    return set(subprocess.run(["/usr/bin/env", "-0"], stdout=subprocess.PIPE, check=True).stdout.split(b"\0"))


def test_nothing_of_a_client_is_left_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "helper_of_script.py").write_text("calls = []")
    source = """
import os, sys, helper_of_script
helper_of_script.calls.append(1)
print(len(helper_of_script.calls), os.environ.get("LEFT"), os.environ.get("HOME") is None)
os.environ["LEFT"] = "behind"
os.environ.pop("HOME", None)
sys.path.append("/nowhere")
os.chdir("/")
"""
    programs_saw = inherited()
    before = dict(os.environ), list(sys.path), Path.cwd(), sys.argv, sys.modules["__main__"]
    assert ran(tmp_path, source) == ran(tmp_path, source) == f"1 None {os.environ.get('HOME') is None}\n"
    assert (dict(os.environ), list(sys.path), Path.cwd(), sys.argv, sys.modules["__main__"]) == before
    assert "helper_of_script" not in sys.modules
    assert inherited() == programs_saw


def test_random_numbers_depend_on_the_clients_seed_alone(tmp_path: Path) -> None:
    source = "import random, numpy, torch; print(random.random(), numpy.random.rand(), float(torch.rand(1)))"
    first, other, again = (ran(tmp_path, source, seed=seed) for seed in (1, 2, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ValueError('no data')", "FAILED the script raised ValueError: no data"),
        ("print('why'); raise SystemExit(3)", "FAILED the script ended with 3: why"),
        ("def broken(:", "FAILED the script raised SyntaxError"),
    ],
)
def test_a_failure_is_told(tmp_path: Path, source: str, told: str) -> None:
    assert told in ran(tmp_path, source)


def test_ending_with_zero_is_no_failure(tmp_path: Path) -> None:
    assert ran(tmp_path, "print('done'); raise SystemExit(0)") == "done\n"


def test_a_script_that_hangs_is_interrupted_even_if_it_catches_everything(tmp_path: Path) -> None:
    source = """
import time
while True:
    try:
        time.sleep(60)
    except Exception:
        pass
"""
    assert "FAILED the script took more than 0.2 s" in ran(tmp_path, source, timeout_s=0.2)


def test_of_much_output_the_end_is_kept() -> None:
    tail = Tail(10)
    for number in range(1000):
        tail.write(f"{number}\n")
    assert tail.text() == "7\n998\n999\n"
    assert tail.last_line() == "999"

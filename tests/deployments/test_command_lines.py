"""Every command line in deployments/ is one that its program takes, and every setting one that it reads."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catchment.settings import Settings
from tests.conftest import ROOT
from tests.deployments.conftest import APPLIED
from tests.deployments.kustomizing import containers, render

DEPLOYMENTS = ROOT / "deployments"
SITE = ["catchment", "site", "start"]


def in_manifests() -> Iterator[list[str]]:
    """Of containers that run our images; the site's has its command as its entry point."""
    for found in (each for folder in APPLIED for each in render(folder)):
        for container in containers(found):
            before = SITE if "/catchment/site:" in container["image"] else []
            if "/catchment/" in container["image"]:
                yield [*before, *container.get("command", []), *container.get("args", [])]


def in_compose_files() -> Iterator[list[str]]:
    for file in DEPLOYMENTS.rglob("compose.yaml"):
        for service in yaml.safe_load(file.read_text())["services"].values():
            if "catchment/" in service["image"]:
                yield [*(SITE if "catchment/site" in service["image"] else []), *service["command"]]


def in_units() -> Iterator[list[str]]:
    for file in DEPLOYMENTS.rglob("*.service"):
        (line,) = re.findall(r"^ExecStart=(.*)$", file.read_text(), re.MULTILINE)
        program, *arguments = shlex.split(line)
        yield [Path(program).name, *arguments]


COMMANDS = sorted({tuple(line) for where in (in_manifests, in_compose_files, in_units) for line in where()})


@functools.cache
def help_of(*command: str) -> str:
    """What a program says of itself."""
    programs = {"python": [sys.executable], "catchment": [sys.executable, "-m", "catchment.cli"]}
    first = programs.get(command[0], [sys.executable, "-m", command[0]])
    said = subprocess.run(
        [*first, *command[1:], "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return said.stdout


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line)[:60])
def test_the_program_knows_all_options(line: tuple[str, ...]) -> None:
    options = [word.partition("=")[0] for word in line if word.startswith("--")]
    program = list(itertools.takewhile(lambda word: not word.startswith("--"), line))
    if line[0] == "prefect":  # the one with an option before its commands
        program = [word for word in line if not word.startswith("-") and not re.fullmatch(r"[\d.]+", word)]
    said = help_of(*program)
    for option in options:
        assert re.search(rf"(^|\s|,){re.escape(option)}\b", said), f"{' '.join(program)} has no {option}"


def test_there_are_command_lines_of_every_program() -> None:
    assert {" ".join(line[:3]) for line in COMMANDS} >= {
        "catchment site start",
        "catchment store migrate",
        "prefect --no-prompt server",
        "python -m api",
        "python -m flows.runner",
    }


def test_settings_are_ones_that_are_read() -> None:
    known = {f"CATCHMENT_{name.upper()}" for name in Settings.model_fields}
    files = [path for path in DEPLOYMENTS.rglob("*") if path.suffix in (".yaml", ".env")]
    ours = {
        name for path in files for name in re.findall(r"\b(CATCHMENT_[A-Z0-9_]+)\s*[:=]", path.read_text())
    }
    of_compose = {"CATCHMENT_IMAGE", "CATCHMENT_VERSION", "CATCHMENT_PUBLISH", "CATCHMENT_SITE_IMAGE"}
    assert ours - of_compose <= known

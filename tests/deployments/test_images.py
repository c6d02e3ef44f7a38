"""Dockerfiles without Docker: stages, users, sources, and what each image's own code needs."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT
from tests.deployments.dockerfiles import ancestry, read

DOCKERFILE = ROOT / "deployments" / "images" / "Dockerfile"
STAGES = read(DOCKERFILE)
FINAL = ("server", "site", "model-server", "extraction", "backend", "cli")


def test_every_target_is_there_and_begins_from_a_pinned_image() -> None:
    assert set(FINAL) <= set(STAGES)
    for name in FINAL:
        assert ancestry(STAGES, name)[-1].base == "${PYTHON_IMAGE}"
    pinned = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert pinned
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-[a-z]+", pinned.group(1))


@pytest.mark.parametrize("name", FINAL)
def test_no_target_runs_as_root(name: str) -> None:
    users = [user for stage in ancestry(STAGES, name) for user in stage.all("USER")[-1:]]
    assert users[0] == "10001:10001", "by number, so that Kubernetes can see that it is not root"


@pytest.mark.parametrize("name", FINAL)
def test_no_compiler_or_package_cache_stays(name: str) -> None:
    """What installs is a stage of its own; the final ones only copy from it."""
    for stage in ancestry(STAGES, name):
        assert not any("pip " in text or "apt" in text for text in stage.all("RUN")), stage.name


def test_what_is_copied_is_there_and_not_ignored() -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in patterns if line.startswith("!")}
    assert "*" in patterns, "nothing is sent to the builder unless it is named"
    for stage in STAGES.values():
        for text in stage.all("COPY"):
            words = text.split()
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in STAGES
                continue
            for source in words[:-1]:
                path = (ROOT / source).resolve()
                assert path.exists(), source
                top = path.relative_to(ROOT).parts[0]
                assert any(fnmatch.fnmatch(top, each) for each in allowed), f"{source} is ignored"


def test_no_secret_is_built_in() -> None:
    words = re.compile(r"(TOKEN|PASSWORD|SECRET|KEY)\s*=", re.IGNORECASE)
    for stage in STAGES.values():
        for name in ("ARG", "ENV"):
            assert not any(words.search(text) for text in stage.all(name)), stage.name


def test_each_environment_is_the_locked_one_with_extras_that_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for name in (f"build-{target}" for target in FINAL):
        install = STAGES[name].all("RUN")[0]
        assert "-c requirements.lock" in install, name
        wanted = re.search(r"\.whl\)\[([a-z,]+)\]", install)
        assert wanted or name in ("build-cli", "build-extraction"), name
        if wanted:
            assert set(wanted.group(1).split(",")) <= extras, name


def test_the_model_server_needs_no_code_that_its_image_lacks() -> None:
    """Its modules of ours: `api.model_server` and the library; the rest of `api` is not copied."""
    copied = [text.split()[0] for text in STAGES["model-server"].all("COPY") if not text.startswith("--")]
    assert copied == ["api/__init__.py", "api/model_server"]
    program = (
        "import sys, api.model_server.__main__ as _;"
        "print(*[name for name in sys.modules if name.split('.')[0] in ('api', 'flows', 'tasks')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(said.stdout.split())
    assert {name for name in loaded if name != "api" and not name.startswith("api.model_server")} == set()


def test_the_server_image_has_everything_that_its_processes_run_from() -> None:
    copied = {text.split()[0] for text in STAGES["server"].all("COPY") if not text.startswith("--")}
    assert copied == {"api", "flows", "tasks", "prefect.yaml"}

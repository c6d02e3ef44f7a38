"""Environments are built once, whole or not at all, and what cannot be had is said with its reason."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from catchment.errors import BackendUnavailable, JobStopped
from catchment.formats.convert import builder
from catchment.formats.convert.backend import BACKENDS, BASE, Backend
from catchment.formats.convert.conversion import Converter, Request
from catchment.formats.convert.environments import READY, Environments

SMALL = "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n"
"""One pure package of ten kilobytes."""


@pytest.fixture
def make_backend(tmp_path: Path) -> Callable[..., Backend]:
    """Makes backends with a lock of their own."""

    def make(lock: str = SMALL, *, name: str = "small", tool: str = "uv", python: str = "") -> Backend:
        (tmp_path / "locks" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "locks" / name / "requirements.lock").write_text(lock)
        version = python or f"{sys.version_info[0]}.{sys.version_info[1]}"
        return Backend(name, tool, version, "a test's own", folder=tmp_path / "locks")  # type: ignore[arg-type]

    return make


def _packages(python: Path) -> str:
    listed = "import importlib.metadata as m; print(*(d.name + d.version for d in m.distributions()))"
    return subprocess.run([python, "-I", "-c", listed], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def nothing_is_satisfied_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's environment happens to have the small package, too."""
    lacking = Backend.lacking_here
    monkeypatch.setattr(
        Backend, "lacking_here", lambda self: ["six"] if self.name == "small" else lacking(self)
    )


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_lock_becomes_an_environment_that_is_found_again(
    make_backend: Callable[..., Backend], tmp_path: Path, tool: str
) -> None:
    told: list[str] = []
    environments = Environments(tmp_path / "cache", build_s=200, progress=told.append)
    backend = make_backend(tool=tool)
    before = environments.status(backend)
    assert (before.available, before.built) == (True, False)
    made = environments.get(backend)
    assert "six1.17.0" in _packages(made.python)
    assert told[-1].startswith("small: the environment is ready after")
    count = len(told)
    assert environments.get(backend) == made == environments.find(backend)
    assert len(told) == count
    assert environments.status(backend).built
    # Without any network or tool: the folder is enough.
    assert Environments(tmp_path / "cache", allow_builds=False).get(backend) == made


def test_another_lock_is_another_environment(make_backend: Callable[..., Backend], tmp_path: Path) -> None:
    environments = Environments(tmp_path / "cache")
    first = environments.place(make_backend())
    assert first == environments.place(make_backend())
    assert first != environments.place(make_backend(f"# changed\n{SMALL}"))


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("six==1.17.0 --hash=sha256:" + "0" * 64 + "\n", "(?i)hash"),
        ("six==0.0.0.999 --hash=sha256:" + "0" * 64 + "\n", "six"),
        ("this is no lock ===\n", "(?i)cannot be built"),
    ],
)
def test_a_broken_lock_leaves_nothing_behind_and_says_why(
    make_backend: Callable[..., Backend], tmp_path: Path, lock: str, words: str
) -> None:
    environments = Environments(tmp_path / "cache", build_s=100)
    with pytest.raises(BackendUnavailable, match=words) as caught:
        environments.get(make_backend(lock))
    assert caught.value.backend == "small"
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_what_was_half_built_when_a_process_died_is_not_used(
    make_backend: Callable[..., Backend], tmp_path: Path
) -> None:
    environments = Environments(tmp_path / "cache", build_s=100)
    place = environments.place(make_backend())
    assert place is not None
    half = place.with_name(f".{place.name}-dead")
    (half / "bin").mkdir(parents=True)
    assert environments.find(make_backend()) is None
    assert "six1.17.0" in _packages(environments.get(make_backend()).python)
    assert not half.exists()


def _build(folder: Path, lock: Path, told: multiprocessing.Queue[str]) -> None:
    backend = Backend("twice", "uv", f"{sys.version_info[0]}.{sys.version_info[1]}", "", folder=lock)
    Backend.lacking_here = lambda _: ["six"]  # type: ignore[method-assign]
    made = Environments(folder, build_s=100, progress=told.put).get(backend)
    told.put(f"done {made.folder}")


def test_two_processes_build_an_environment_once(
    make_backend: Callable[..., Backend], tmp_path: Path
) -> None:
    backend = make_backend(name="twice")
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[str] = context.Queue()
    both = [context.Process(target=_build, args=(tmp_path / "cache", backend.folder, told)) for _ in range(2)]
    for process in both:
        process.start()
    lines: list[str] = []
    while sum(line.startswith("done") for line in lines) < 2:
        lines.append(told.get(timeout=120))
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    assert sum("building the environment" in line for line in lines) == 1
    assert len({line for line in lines if line.startswith("done")}) == 1
    assert (Path(lines[-1].removeprefix("done ")) / READY).is_file()


def test_a_build_ends_when_it_is_cancelled_and_when_its_time_is_over(
    make_backend: Callable[..., Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = [[sys.executable, "-I", "-c", "import time; time.sleep(600)"]]
    monkeypatch.setattr(builder, "commands", lambda *_: sleeps)
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(JobStopped, match="stopped while the environment of small was built"):
        Environments(tmp_path / "cache").get(make_backend(), cancel)
    with pytest.raises(BackendUnavailable, match="took longer to build than it may"):
        Environments(tmp_path / "cache", build_s=0.5).get(make_backend())
    assert time.monotonic() - began < 10
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_waiting_builder_hears_its_own_deadline(
    make_backend: Callable[..., Backend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        builder, "commands", lambda *_: [[sys.executable, "-I", "-c", "import time; time.sleep(600)"]]
    )
    cancel, ended = threading.Event(), threading.Event()

    def build() -> None:
        with pytest.raises(JobStopped):
            Environments(tmp_path / "cache").get(make_backend(), cancel)
        ended.set()

    threading.Thread(target=build).start()
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").glob("*.lock")) and time.monotonic() < deadline:
        cancel.wait(0.02)
    with pytest.raises(BackendUnavailable, match=r"another process|took longer"):
        Environments(tmp_path / "cache", build_s=0.5).get(make_backend())
    cancel.set()
    assert ended.wait(20)


def test_a_backend_without_its_interpreter_is_unavailable_with_the_reason(
    make_backend: Callable[..., Backend], tmp_path: Path
) -> None:
    status = Environments(tmp_path).status(make_backend(python="3.99"))
    assert (status.available, status.reason) == (False, "there is no Python 3.99 on this machine")
    with pytest.raises(BackendUnavailable, match=r"no Python 3\.99"):
        Environments(tmp_path).get(make_backend(python="3.99"))
    lost = replace(make_backend(), folder=tmp_path / "nowhere")
    assert "requirements.lock is not there" in Environments(tmp_path).status(lost).reason


def test_without_builds_an_absent_environment_is_named(
    make_backend: Callable[..., Backend], tmp_path: Path
) -> None:
    closed = Environments(tmp_path / "cache", allow_builds=False)
    assert not closed.status(make_backend()).available
    with pytest.raises(BackendUnavailable, match="none may be built here"):
        closed.get(make_backend())


def test_a_route_without_any_environment_says_which_backend_lacks(
    converter: Converter, tmp_path: Path
) -> None:
    lonely = Converter(Environments(tmp_path / "cache", allow_builds=False), converter.runner)
    (tmp_path / "source").mkdir()
    with pytest.raises(BackendUnavailable, match="backend tensorflow is unavailable") as caught:
        lonely.convert(Request(tmp_path / "source", "H5", "ONNX"), tmp_path / "out")
    assert "none may be built here" in caught.value.reason


def test_every_backend_is_listed_with_its_state(environments: Environments) -> None:
    listed = [environments.status(each) for each in BACKENDS.values()]
    assert {each.name for each in listed} == {
        path.parent.name for path in BACKENDS[BASE].folder.glob("*/entry.py")
    }
    own = next(each for each in listed if each.name == BASE)
    assert (own.available, own.built, own.reason) == (True, True, "")
    assert all(each.about and each.python for each in listed)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda each: each.name)
def test_a_lock_pins_everything_and_hashes_what_comes_from_the_index(backend: Backend) -> None:
    text = backend.lock.read_text()
    pins = backend.pins()
    assert pins
    assert "numpy" in pins
    assert text.count("==") == len(pins)
    if backend.builder == "uv":
        assert text.count("--hash=sha256:") >= len(pins)

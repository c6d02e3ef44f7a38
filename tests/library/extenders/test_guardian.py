"""Whatever dies first, nothing that a function has started is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from catchment.extenders.process import Child
from tests.conftest import wait_until
from tests.library.extenders.test_failures import is_alive

FLOW = """
import sys, threading
from pathlib import Path
from catchment.extenders.process import Child
Child(Path(sys.argv[1]), lambda: None)
threading.Event().wait()
"""
STARTS_PROCESSES = """
    import os, signal, subprocess, sys, time

    def note(pid):
        with open(PIDS, "a") as file:
            file.write(f"{pid}\\n")

    def start(*line):
        return subprocess.Popen([sys.executable, "-c", *line], start_new_session=True)

    def broadcast(parameters):
        note(os.getpid())
        note(os.getppid())
        note(start("import time; time.sleep(600)").pid)
        deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(600)"
        note(start(deaf).pid)
        orphan = "import os, time; pid = os.fork(); pid or time.sleep(600); print(pid)"
        with open("orphan", "w+") as told:
            subprocess.run([sys.executable, "-c", orphan], start_new_session=True, stdout=told)
            told.seek(0)
            note(int(told.read()))
        note("all")
        END
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """A test that fails leaves no process behind either."""
    yield
    noted = tmp_path / "pids"
    for pid in (int(word) for word in noted.read_text().split() if word.isdigit()):
        if is_alive(pid) and b"time.sleep(600)" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a call whose function starts processes of several kinds, and then hangs."""
    return laid_out(tmp_path, "time.sleep(600)")


def laid_out(tmp_path: Path, end: str) -> Path:
    folder = tmp_path / "call"
    (folder / "script").mkdir(parents=True)
    source = textwrap.dedent(STARTS_PROCESSES).replace("END", end)
    (folder / "script" / "functions.py").write_text(f"PIDS = {str(tmp_path / 'pids')!r}\n{source}")
    call = {
        "step": "broadcast",
        "name": "broadcast",
        "entry": "functions.py",
        "arguments": {"parameters": {}},
        "memory_mb": 2000,
        "file_mb": 100,
    }
    (folder / "call.json").write_text(json.dumps(call))
    return folder


def started(folder: Path) -> list[int]:
    """The function's process, its guardian, and all that the function has started."""
    noted = folder.parent / "pids"
    wait_until(
        lambda: noted.exists() and "all" in noted.read_text(), timeout_s=30, what="the function's processes"
    )
    pids = [int(line) for line in noted.read_text().split()[:-1]]
    assert len(pids) == 5
    return pids


def none_is_left(pids: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), timeout_s=10, what=f"the end of {pids}")


@pytest.fixture
def flow(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", FLOW, str(folder)])
    yield process
    process.kill()
    process.wait(10)


def test_nothing_survives_a_flow_process_that_is_killed(folder, flow):
    pids = started(folder)
    assert all(map(is_alive, pids))
    flow.kill()
    none_is_left(pids)


def test_a_function_does_not_survive_its_guardian(folder, flow):
    function, guardian, *_ = started(folder)
    os.kill(guardian, signal.SIGKILL)
    none_is_left([function])


@pytest.mark.parametrize("end", ["return {}, {}", "os._exit(3)", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_what_a_function_has_started_ends_with_it(tmp_path, end):
    folder = laid_out(tmp_path, end)
    process = Child(folder, lambda: None)
    pids = started(folder)
    assert process.ended.wait(20)
    assert not any(map(is_alive, pids))
    process.close()
    told = process.told()
    wanted = {"return {}, {}": "result", "os._exit(3)": "exit code 3"}.get(end, "signal SIGSEGV")
    assert wanted in told or wanted in told["error"]


def test_a_guardian_that_its_function_has_stopped_holds_up_no_end(tmp_path, monkeypatch):
    monkeypatch.setattr("catchment.extenders.process._GUARDIAN_S", 0.5)
    folder = laid_out(tmp_path, "os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)")
    process = Child(folder, lambda: None)
    pids = started(folder)
    process.close()
    none_is_left(pids)

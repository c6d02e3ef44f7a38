"""Scripts as processes: warm and cold starts, limits, several workers, output, and their end."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from catchment.site.config import SiteConfig
from catchment.site.home import Home
from catchment.site.http import Endpoint
from catchment.site.launch import Launcher
from catchment.site.placement import Place
from catchment.site.runner import Runner
from catchment.site.work import Work, WorkCancelledError
from catchment.wire.messages import Blob, SiteResources, WorkOrder, WorkResult
from tests.library.site.conftest import TRAIN

Run = Callable[..., WorkResult]

TORCH_STEP = """
import time
import catchment.sdk as fl
import torch
model = torch.nn.Linear(2, 3)
fl.load_weights(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(4, 2)).sum().backward()
optimizer.step()
fl.commit_weights(model)
fl.commit_metrics({"sample_num": 4, "begun": BEGUN, "threads": torch.get_num_threads()})
"""

ALL_REDUCE = """
import os, json
import torch, torch.distributed as dist
import catchment.sdk as fl
dist.init_process_group("gloo")
rank = dist.get_rank()
value = torch.tensor([float(rank + 1)])
dist.all_reduce(value)
model = torch.nn.Linear(2, 3)
fl.load_weights(model)
with torch.no_grad():
    model.bias.add_(value)
fl.commit(metrics={"sample_num": dist.get_world_size(), "rank": rank}, trained_model=model)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """One fork server for all tests of this file: loading the framework takes seconds."""
    launcher = Launcher(["pytorch"])
    launcher.preload("pytorch")
    yield launcher
    launcher.close()


@pytest.fixture
def make_order(tmp_path: Path) -> Callable[..., WorkOrder]:
    def make(**changes: Any) -> WorkOrder:
        values: dict[str, Any] = {
            "work_id": "w1",
            "kind": "train",
            "namespace": "default",
            "job_id": "digits",
            "run": 1,
            "round": 1,
            "attempt": 0,
            "runtime": "pytorch",
            "weights": Blob(digest="sha256:" + "0" * 64, size_bytes=1),
            "task_entry": "e",
            "seed": 1,
            "timeout_s": 60.0,
        }
        return WorkOrder(**{**values, **changes})

    return make


@pytest.fixture
def runner_in(tmp_path: Path, entries: Path, launcher: Launcher) -> Callable[..., tuple[Runner, Path]]:
    def make(*, warm: bool = False, log_bytes: int = 1_000_000) -> tuple[Runner, Path]:
        home = Home(tmp_path / "home")
        for folder in (home.work, home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        config = SiteConfig(
            name="site-1",
            endpoint=Endpoint("http://127.0.0.1:1"),
            home=home.folder,
            address="site-1",
            entries=entries,
            runtimes=("pytorch",),
            resources=SiteResources(cpu=2, memory_mb=8000),
            log_bytes=log_bytes,
        )

        def fetch(work: Work, blob: Blob, target: Path) -> None:
            save_file({"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(3, np.float32)}, target)

        return Runner(config, home, launcher if warm else Launcher(), fetch), home.work

    return make


@pytest.fixture
def run(runner_in: Callable[..., tuple[Runner, Path]], make_order, add_entry) -> Run:
    def run(source: str, *, warm: bool = False, log_bytes: int = 1_000_000, **order: Any) -> WorkResult:
        add_entry("e", source)
        runner, parent = runner_in(warm=warm, log_bytes=log_bytes)
        work = Work.accept(parent, make_order(**order))
        run.work = work  # type: ignore[attr-defined]
        return runner.run(work, Place())

    return run


def test_a_warm_start_runs_the_script_as_a_process_of_its_own(run: Run, launcher: Launcher) -> None:
    assert launcher.servers["pytorch"].wait_ready(60)
    begun = time.time()
    result = run(TORCH_STEP.replace("BEGUN", "time.time()"), warm=True)
    assert result.status == "done", result
    assert result.metrics["threads"] == 1
    assert time.time() - begun < 2.0, "this is what the fork server is for"
    update = load_file(run.work.task_folder / "update.safetensors")  # type: ignore[attr-defined]
    np.testing.assert_allclose(update["bias"], np.full(3, -0.4), rtol=1e-6)


ABOUT = """
import __main__, atexit, os, sys, threading, resource, numpy, signal
import sibling
def late():
    print("LATE", flush=True)
atexit.register(late)
threading.Timer(0.05, lambda: print("THREAD")).start()
descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]
print({
  "name": __name__, "main": __main__.__dict__ is globals(), "file": os.path.basename(__file__),
  "argv": sys.argv, "cwd": os.path.samefile(os.getcwd(), os.path.dirname(__file__)),
  "path0": os.path.samefile(sys.path[0], os.path.dirname(__file__)),
  "core": resource.getrlimit(resource.RLIMIT_CORE), "descriptors": descriptors,
  "leader": os.getsid(0) == os.getpid(), "tmp": os.path.basename(os.environ["TMPDIR"]),
  "omp": os.environ["OMP_NUM_THREADS"], "cuda": os.environ["CUDA_VISIBLE_DEVICES"],
  "stdin": sys.stdin.read(), "sibling": sibling.value,
  "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
  "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
  "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
})
raise SystemExit("the end")
"""


@pytest.mark.parametrize("warm", [True, False])
def test_a_script_finds_the_same_world_warm_and_cold(run: Run, warm: bool, entries: Path) -> None:
    (entries / "e-scripts").mkdir()
    (entries / "e-scripts" / "sibling.py").write_text("value = 5")
    result = run(ABOUT, warm=warm, parameters={"--n": 3})
    assert result.reason.startswith("main.py ended with exit code 1"), result
    lines = result.log_tail.splitlines()
    assert lines[-1] == "LATE"
    assert {"THREAD", "the end"} <= set(lines)
    assert eval(lines[0]) == {  # noqa: S307 - our own script printed it
        "name": "__main__",
        "main": True,
        "file": "main.py",
        "argv": ["main.py", "--n", "3"],
        "cwd": True,
        "path0": True,
        "core": (0, 0),
        "descriptors": [0, 1, 2],
        "leader": True,
        "tmp": "tmp",
        "omp": "1",
        "cuda": "",
        "stdin": "",
        "sibling": 5,
        "int": True,
        "term": True,
        "child": True,
    }


def test_the_traceback_of_a_warm_script_begins_in_the_script(run: Run) -> None:
    result = run("def f():\n    raise KeyError('x')\nf()", warm=True)
    assert result.reason == "main.py ended with exit code 1: KeyError: 'x'"
    assert "warm.py" not in result.log_tail
    assert result.log_tail.count("File ") == 2


def test_forks_draw_different_random_numbers(run: Run) -> None:
    source = "import numpy, random; print(numpy.random.rand(), random.random())"
    first, second = (run(source, warm=True).log_tail.split() for _ in range(2))
    assert not set(first) & set(second)


@pytest.mark.parametrize("warm", [True, False])
def test_what_a_script_leaves_for_its_end_is_done(run: Run, warm: bool) -> None:
    source = """
import atexit, tempfile, weakref
class Thing: ...
thing = Thing()
weakref.finalize(thing, print, "finalized")
kept = tempfile.TemporaryDirectory()
atexit.register(print, "at exit")
"""
    printed = run(source, warm=warm).log_tail
    assert "finalized" in printed
    assert "at exit" in printed
    assert "Implicitly cleaning up" not in printed


def test_a_dead_fork_server_is_replaced(run: Run, launcher: Launcher) -> None:
    server = launcher.servers["pytorch"]
    assert server.wait_ready(60)
    assert server.pid is not None
    dead = server.pid
    os.kill(dead, signal.SIGKILL)
    os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
    assert run(TRAIN, warm=True).status == "done"
    assert server.pid != dead


def test_without_a_fork_server_a_process_is_started(run: Run, launcher: Launcher, monkeypatch) -> None:
    monkeypatch.setattr(launcher.servers["pytorch"], "submit", lambda *_: False)
    assert run(TRAIN, warm=True).status == "done"


def test_two_workers_meet_in_torch_distributed(run: Run) -> None:
    result = run(ALL_REDUCE, warm=True, resource={"worker_num": 2})
    assert result.status == "done", result
    assert result.metrics == {"sample_num": 2, "rank": 0}
    update = load_file(run.work.task_folder / "update.safetensors")  # type: ignore[attr-defined]
    np.testing.assert_array_equal(update["bias"], np.full(3, 3.0))


def test_one_failing_worker_ends_all(run: Run) -> None:
    source = "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(9)\ntime.sleep(100)"
    begun = time.monotonic()
    result = run(source, resource={"worker_num": 3})
    assert result.reason.startswith("main.py (worker 1) ended with exit code 9")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("warm", [True, False])
def test_a_script_that_hangs_is_killed_with_its_time_as_reason(run: Run, warm: bool) -> None:
    source = (
        "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: exit(0))\nprint('in')\ntime.sleep(99)"
    )
    begun = time.monotonic()
    result = run(source, warm=warm, timeout_s=1.0)
    assert result.reason == "main.py hung past its time of 1 s and was killed"
    assert result.log_tail == "in\n"
    assert time.monotonic() - begun < 5


def test_the_entrys_own_timeout_holds_too(run: Run, add_entry, runner_in, make_order) -> None:
    add_entry("e", "import time; time.sleep(99)", timeout=0.01)
    runner, parent = runner_in()
    result = runner.run(Work.accept(parent, make_order()), Place())
    assert result.reason == "main.py hung past its time of 1 s and was killed"


@pytest.mark.parametrize("warm", [True, False])
def test_a_memory_hog_is_killed_with_numbers(run: Run, warm: bool) -> None:
    source = (
        "import time\nkept = []\n"
        "for _ in range(40):\n    kept.append(b'x' * 20_000_000)\n    time.sleep(0.02)\ntime.sleep(60)"
    )
    result = run(source, warm=warm, resource={"memory": 300})
    words = result.reason.split()
    assert result.reason.startswith("main.py used "), result
    assert words[3:] == ["MB", "of", "300", "MB", "allowed", "and", "was", "killed"]
    assert 300 < int(words[2]) < 900


def test_one_huge_allocation_is_an_error_in_the_script(run: Run) -> None:
    result = run("x = bytearray(6_000_000_000)", resource={"memory": 300})
    assert result.reason == "main.py ended with exit code 1: MemoryError"


def test_torch_runs_in_the_default_memory(run: Run) -> None:
    result = run(TORCH_STEP.replace("BEGUN", "0"), warm=False)
    assert result.status == "done", result


def test_a_flood_of_output_costs_no_disk_and_keeps_both_ends(run: Run) -> None:
    source = (
        "import sys\nprint('HEAD')\nfor _ in range(100): sys.stdout.write('y' * 999_999 + '\\n')\n"
        "print('TAIL')\n1/0"
    )
    result = run(source, log_bytes=200_000)
    log = run.work.output  # type: ignore[attr-defined]
    assert log.stat().st_size < 210_000
    text = log.read_text()
    assert text.startswith("HEAD")
    assert "bytes are left out here" in text
    assert "TAIL\nTraceback" in result.log_tail
    assert len(result.log_tail) == 8000
    assert result.reason.endswith("ZeroDivisionError: division by zero")


def test_a_signal_is_named(run: Run) -> None:
    result = run("import os; os.kill(os.getpid(), 11)")
    assert result.reason == "main.py was killed by SIGSEGV"


def test_other_programs_run_as_given(run: Run, entries: Path, runner_in, make_order) -> None:
    (entries / "sh.json").write_text(
        json.dumps(
            {"script_path": "sh", "train": {"command": "sh -eu", "entry": "run.sh", "params": {"a b": "$x"}}}
        )
    )
    (entries / "sh").mkdir()
    (entries / "sh" / "run.sh").write_text('printf "[%s]" "$@"; exit 3')
    runner, parent = runner_in()
    result = runner.run(Work.accept(parent, make_order(task_entry="sh")), Place())
    assert result.reason == "run.sh ended with exit code 3: [a b][$x]"


@pytest.mark.parametrize("warm", [True, False])
def test_a_cancelled_script_stops_at_once(
    add_entry, runner_in, make_order, warm: bool, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    add_entry("e", f"open({str(up)!r}, 'w').close()\nimport time; time.sleep(99)")
    runner, parent = runner_in(warm=warm)
    work = Work.accept(parent, make_order())
    threading.Timer(0.7, work.cancel).start()
    begun = time.monotonic()
    with pytest.raises(WorkCancelledError):
        runner.run(work, Place())
    assert time.monotonic() - begun < 5


def test_a_keeper_that_is_killed_takes_the_script_with_it(
    add_entry, runner_in, make_order, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    source = (
        "import os, subprocess, sys, time\n"
        "line = [sys.executable, '-c', 'import time; time.sleep(99)']\n"
        "child = subprocess.Popen(line, start_new_session=True)\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getppid(), 9)\ntime.sleep(99)"
    )
    add_entry("e", source)
    runner, parent = runner_in()
    result = runner.run(Work.accept(parent, make_order()), Place())
    assert result.reason == "main.py was killed together with the process that watches over it"
    child = int(mark.read_text())
    state = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 5  # it is dying; nobody but init is told when it is dead
    while state.exists() and state.read_text().split()[2] not in "ZX":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_evaluation_needs_metrics_and_no_weights(run: Run) -> None:
    assert "call fl.commit_metrics" in run("pass", kind="evaluate").reason
    result = run(
        "import catchment.sdk as fl; fl.commit_metrics({'accuracy': 0.5})", kind="evaluate", warm=True
    )
    assert result.status == "done"
    assert result.update is None
    assert result.metrics == {"accuracy": 0.5}


def test_python_is_the_agents_own(run: Run) -> None:
    assert run("import sys; print(sys.executable); 1/0").log_tail.splitlines()[0] == sys.executable

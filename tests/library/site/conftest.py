"""Fixtures: a coordinator of our own, agents as real processes, scripts and weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from catchment.wire.messages import Resource, WorkOrder
from tests.library.site.exchange_double import ExchangeDouble

START = "import sys; from catchment.cli.site import site; site()"

TRAIN = """
import json, os, sys, pathlib
import numpy as np
from safetensors.numpy import load_file, save_file
folder = pathlib.Path(os.environ["CATCHMENT_TASK"]).parent
weights = load_file(folder / "weights.safetensors")
save_file({name: np.ones_like(value) for name, value in weights.items()}, folder / "update.safetensors")
(folder / "metrics.json").write_text(json.dumps({"sample_num": 7, "argv": sys.argv[1:]}))
print("trained")
"""


def wait_for_exit(process: subprocess.Popen[Any], timeout_s: float) -> int:
    return process.wait(timeout=timeout_s)


class AgentProcess:
    """An agent as a user starts it."""

    def __init__(self, home: Path, server: str, *options: str, env: dict[str, str] | None = None) -> None:
        self.home = home
        self.log = home.parent / f"{home.name}-agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    START,
                    "start",
                    "--name",
                    "site-1",
                    "--server",
                    server,
                    "--home",
                    str(home),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": "src", **(env or {})},
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def words(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def exchange() -> Iterator[ExchangeDouble]:
    double = ExchangeDouble()
    double.start()
    yield double
    double.stop()


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    folder = tmp_path / "entries"
    folder.mkdir()
    return folder


@pytest.fixture
def start_agent(
    tmp_path: Path, exchange: ExchangeDouble, entries: Path
) -> Iterator[Callable[..., AgentProcess]]:
    started: list[AgentProcess] = []

    def start(*options: str, home: str = "home", cold: bool = True, **kwargs: Any) -> AgentProcess:
        fixed = ["--entries", str(entries), *(["--cold"] if cold else [])]
        agent = AgentProcess(tmp_path / home, exchange.url, *fixed, *options, **kwargs)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait(timeout=10)
        sys.stderr.write(agent.words())


@pytest.fixture
def add_entry(entries: Path) -> Callable[..., None]:
    def add(name: str, source: str, **part: Any) -> None:
        folder = entries / f"{name}-scripts"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(source)
        content = {"command": "python3", "entry": "main.py", **part}
        entry = {"script_path": folder.name, "train": content, "evaluate": content}
        (entries / f"{name}.json").write_text(json.dumps(entry))

    return add


@pytest.fixture
def weights() -> bytes:
    return save({"w": np.zeros((3, 2), np.float32), "b": np.zeros(2, np.float32)})


@pytest.fixture
def order(exchange: ExchangeDouble, weights: bytes) -> Callable[..., WorkOrder]:
    """Makes orders, and puts their weights where the site can fetch them."""
    count = iter(range(1, 1000))

    def make(task_entry: str | None = "e", **changes: Any) -> WorkOrder:
        number = next(count)
        values: dict[str, Any] = {
            "work_id": f"work-{number}",
            "kind": "train",
            "namespace": "default",
            "job_id": "digits",
            "run": 1,
            "round": number,
            "attempt": 0,
            "runtime": "pytorch",
            "weights": exchange.add_blob(weights),
            "task_entry": task_entry,
            "seed": 1,
            "timeout_s": 60.0,
            "resource": Resource(),
        }
        return WorkOrder(**{**values, **changes})

    return make


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(timeout=5)
            assert not thread.is_alive(), thread

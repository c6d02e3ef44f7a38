"""The serving host through crashes, hangs, its own death and rivals; every process is a real one."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catchment.errors import Unreachable
from catchment.serving.host.host import Host, Terms
from catchment.serving.host.launching import Ports, Surroundings, free_ports
from catchment.serving.host.seen import Pace
from catchment.serving.workload import Endpoint, Workload
from tests.conftest import ROOT, wait_until
from tests.library.serving.backend_contract import absent, infer, ready, workload
from tests.library.serving.local_hosts import HostProcess, LocalHarness, host
from tests.library.stack.processes import alive, mentioning

QUICK = Pace(look=0.02, probe=0.1, answer=0.5, misses=2, leave=0.05, margin=1.0)
RESTART_S = 5.0
"""What is promised for a server that was killed."""


@pytest.fixture
def harness(tmp_path: Path, database_url: str) -> Iterator[LocalHarness]:
    home = tmp_path / "a home elsewhere" / "of ours"
    made = LocalHarness(home, database_url, tmp_path)
    yield made
    made.close()
    assert not mentioning(str(home))


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[LocalHarness]:
    made = LocalHarness(tmp_path / "home", f"sqlite:///{tmp_path / 'store.db'}", tmp_path)
    yield made
    made.close()
    assert not mentioning(str(tmp_path / "home"))


@contextmanager
def hosted(
    harness: LocalHarness, pace: Pace = QUICK, ports: Callable[[], Ports] = free_ports
) -> Iterator[Host]:
    """A host in a thread of this process, at another pace than users'."""
    running = Host(harness.store, Terms("here", Surroundings(ROOT), pace, 5.0, ports))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.stop()
        thread.join(30)
        assert not thread.is_alive()


def running(harness: LocalHarness, replicas: int = 1, **changes: Any) -> Workload:
    """A workload that is ready."""
    wanted = replace(workload(harness, replicas=replicas), **changes)
    harness.backend.apply(wanted)
    ready(harness, wanted)
    return wanted


class Load:
    """Clients that ask all the time, and turn to another endpoint when one does not answer, like gateways."""

    CLIENTS = 4

    def __init__(self, harness: LocalHarness, wanted: Workload) -> None:
        self._harness, self._wanted = harness, wanted
        self._over = threading.Event()
        self.answered = 0
        self.interrupted = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(self.CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.more(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, requests: int) -> None:
        """Wait until so many more are answered."""
        target = self.answered + requests
        wait_until(lambda: self.answered >= target, timeout_s=30, what="answers")

    def _ask(self, number: int) -> None:
        while not self._over.is_set():
            endpoints = self._harness.backend.endpoints(self._wanted)
            number += 1
            if not any(self._one(endpoint, number) for endpoint in turned(endpoints, number)):
                self.lost.append(f"none of {len(endpoints)} endpoints answered")

    def _one(self, endpoint: Endpoint, number: int) -> bool:
        try:
            assert infer(endpoint, [float(number), 0.0]) == [float(number), 0.0]
        except OSError:
            self.interrupted += 1
            return False
        self.answered += 1
        return True


def turned(endpoints: list[Endpoint], by: int) -> list[Endpoint]:
    by %= max(1, len(endpoints))
    return endpoints[by:] + endpoints[:by]


def test_a_killed_server_costs_no_request_and_is_back_in_time(harness: LocalHarness) -> None:
    with host(harness):
        wanted = running(harness, replicas=2)
        before = set(harness.pids(wanted))
        with Load(harness, wanted) as load:
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()
            wait_until(
                lambda: len(now := set(harness.pids(wanted))) == 2 and killed not in now,
                timeout_s=30,
                what="another server in its place",
            )
            took_s = time.monotonic() - began
            load.more(50)
        assert load.lost == []
        assert took_s <= RESTART_S
        assert before - {killed} < set(harness.pids(wanted))
        assert sorted(row.restarts for row in harness.rows(wanted)) == [0, 1]


def test_scaling_down_and_removal_lose_no_request(harness: LocalHarness) -> None:
    with host(harness):
        wanted = running(harness, replicas=2)
        with Load(harness, wanted) as load:
            harness.backend.apply(wanted.scaled(1))
            wait_until(lambda: len(harness.rows(wanted)) == 1, timeout_s=30, what="one replica")
            load.more(20)
        assert load.lost == []
        harness.backend.remove(wanted.serving, [wanted.key])
        absent(harness, wanted)


def test_a_killed_host_is_followed_by_one_that_takes_its_servers_over(harness: LocalHarness) -> None:
    with host(harness) as first:
        wanted, ended = running(harness, replicas=2), running(harness)
        pids, stray = harness.pids(wanted), harness.pids(ended)
        first.kill()
        assert [infer(each, [1.0, 2.0]) for each in harness.backend.endpoints(wanted)] == [[1.0, 2.0]] * 2
        harness.backend.remove(ended.serving, [ended.key])
        with host(harness, "second"):
            absent(harness, ended)
            assert harness.pids(wanted) == pids
            assert not alive(stray[0])
            os.kill(pids[0], signal.SIGKILL)
            wait_until(
                lambda: len(harness.pids(wanted)) == 2 and pids[0] not in harness.pids(wanted),
                timeout_s=30,
                what="a restart of what was taken over",
            )
            assert pids[1] in harness.pids(wanted)


def test_what_died_with_its_host_is_started_again(harness: LocalHarness) -> None:
    with host(harness) as first:
        wanted = running(harness)
        (pid,) = harness.pids(wanted)
        first.kill()
        os.kill(pid, signal.SIGKILL)
        with host(harness, "second"):
            wait_until(lambda: harness.pids(wanted) not in ([], [pid]), timeout_s=30, what="another server")
            ready(harness, wanted)


def test_a_process_of_another_command_is_never_taken_over(on_sqlite: LocalHarness) -> None:
    """A row may name a number and a start that belong to something else: here to this very process."""
    from sqlalchemy import update

    from catchment.serving.host.process import start_time
    from catchment.store.schema import serving_endpoints

    with host(on_sqlite) as first:
        wanted = running(on_sqlite)
        (pid,) = on_sqlite.pids(wanted)
        first.kill()
        mine = {"pid": os.getpid(), "pid_start": start_time(os.getpid())}
        on_sqlite.store.db.write(lambda tx: tx.execute(update(serving_endpoints).values(**mine)))
        with host(on_sqlite, "second"):
            wait_until(
                lambda: on_sqlite.pids(wanted) not in ([], [pid], [os.getpid()]),
                timeout_s=30,
                what="a server of its own",
            )
            wait_until(lambda: not alive(pid), timeout_s=30, what="the end of what no row names")


def test_of_two_hosts_one_works_and_the_other_follows(harness: LocalHarness) -> None:
    with host(harness) as first:
        wanted = running(harness)
        (pid,) = harness.pids(wanted)
        with host(harness, "second") as second:
            second.said("another serving host works for this store")
            assert harness.pids(wanted) == [pid]
            first.kill()
            harness.backend.apply(wanted.scaled(2))
            wait_until(lambda: len(harness.pids(wanted)) == 2, timeout_s=30, what="the second host's work")
            assert pid in harness.pids(wanted)


def test_a_host_that_is_told_to_stop_ends_its_servers(harness: LocalHarness) -> None:
    with host(harness) as running_host:
        wanted = running(harness, replicas=2)
        pids = harness.pids(wanted)
        assert running_host.stop() == 0
        assert not any(alive(pid) for pid in pids)
        assert harness.rows(wanted) == []
        with host(harness, "second"):
            ready(harness, wanted)


def test_a_server_that_hangs_is_replaced(on_sqlite: LocalHarness) -> None:
    with hosted(on_sqlite):
        wanted = running(on_sqlite)
        (pid,) = on_sqlite.pids(wanted)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: on_sqlite.pids(wanted) not in ([], [pid]), timeout_s=30, what="another server")
        assert not alive(pid)


def test_a_model_that_crashes_each_time_is_called_failed_and_tried_ever_more_rarely(
    on_sqlite: LocalHarness,
) -> None:
    with hosted(on_sqlite):
        wanted = running(on_sqlite)
        for _ in range(4):
            ready(on_sqlite, wanted)
            restarts = on_sqlite.rows(wanted)[0].restarts
            on_sqlite.crash(wanted)
            wait_until(
                lambda restarts=restarts: on_sqlite.rows(wanted)[0].restarts > restarts,
                timeout_s=30,
                what="a restart",
            )
        wait_until(lambda: on_sqlite.pids(wanted), timeout_s=30, what="the fifth life")
        on_sqlite.crash(wanted)
        wait_until(
            lambda: on_sqlite.backend.observe(wanted).state == "failed", timeout_s=30, what="the failure"
        )
        assert "was killed by signal 9" in on_sqlite.backend.observe(wanted).message


def test_a_port_that_was_taken_meanwhile_is_no_failure(on_sqlite: LocalHarness) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tried = iter([Ports(port, free_ports().grpc), Ports(free_ports().http, port)])
        with hosted(on_sqlite, ports=lambda: next(tried, None) or free_ports()):
            wanted = running(on_sqlite)
            assert port not in {int(each.http.rpartition(":")[2]) for each in on_sqlite.rows(wanted)}
            assert next(tried, None) is None


def test_a_server_over_its_memory_is_ended_with_the_reason(on_sqlite: LocalHarness) -> None:
    with hosted(on_sqlite):
        wanted = replace(workload(on_sqlite), resources={"limits": {"memory": "8Mi", "cpu": "1"}})
        on_sqlite.backend.apply(wanted)
        wait_until(
            lambda: (
                "its limit is 8 MiB" in on_sqlite.rows(wanted)[0].message if on_sqlite.rows(wanted) else False
            ),
            timeout_s=30,
            what="the reason",
        )


def test_another_description_under_the_same_key_restarts_it(on_sqlite: LocalHarness) -> None:
    with hosted(on_sqlite):
        wanted = running(on_sqlite)
        (pid,) = on_sqlite.pids(wanted)
        on_sqlite.backend.apply(replace(wanted, server={"queue": 3}))
        wait_until(lambda: on_sqlite.pids(wanted) not in ([], [pid]), timeout_s=30, what="another server")


def test_while_the_database_is_away_servers_run_and_are_restarted(
    on_sqlite: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosted(on_sqlite):
        wanted = running(on_sqlite)
        (row,) = on_sqlite.rows(wanted)
        away = threading.Event()
        away.set()
        once = on_sqlite.store.db._once

        def refused(step: Any, *, write: bool) -> Any:
            if away.is_set() and threading.current_thread() is not threading.main_thread():
                raise Unreachable("the database is away")
            return once(step, write=write)

        monkeypatch.setattr(on_sqlite.store.db, "_once", refused)
        os.kill(row.pid, signal.SIGKILL)
        wait_until(
            lambda: [
                pid for pid in mentioning("api.model_server") if _serves(pid, on_sqlite) and pid != row.pid
            ],
            timeout_s=30,
            what="a restart without the database",
        )
        assert on_sqlite.rows(wanted)[0].pid == row.pid
        away.clear()
        wait_until(lambda: on_sqlite.pids(wanted) not in ([], [row.pid]), timeout_s=30, what="its row")


def _serves(pid: int, harness: LocalHarness) -> bool:
    try:
        return str(harness.settings.home) in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_models_logs_and_secrets(on_sqlite: LocalHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are links to blobs and go with the last workload; a model server knows no secret of its host."""
    monkeypatch.setenv("CATCHMENT_TOKEN", "not-for-model-servers")
    harmful = {"LD_PRELOAD": "/tmp/harm.so", "OMP_NUM_THREADS": "1"}
    with host(on_sqlite):
        wanted = running(on_sqlite, env=harmful)
        (pid,) = on_sqlite.pids(wanted)
        environment = Path(f"/proc/{pid}/environ").read_text()
        assert "OMP_NUM_THREADS=1" in environment
        for secret in ("not-for-model-servers", "harm.so", "CATCHMENT_DATABASE_URL"):
            assert secret not in environment
        (file,) = (on_sqlite.settings.home / "servings" / "models").glob("*/model.onnx")
        assert file.samefile(on_sqlite.store.blobs.local_path(wanted.model.digest))
        log = on_sqlite.settings.home / "servings" / wanted.serving.uid / f"{wanted.key}-0.log"
        assert '"ready"' in log.read_text()
        on_sqlite.backend.remove(wanted.serving, [wanted.key])
        absent(on_sqlite, wanted)
        wait_until(lambda: not file.exists() and not log.exists(), timeout_s=10, what="the clearing up")


def test_a_host_without_its_project_says_so(on_sqlite: LocalHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATCHMENT_PROJECT", str(on_sqlite.folder))
    lost = HostProcess(on_sqlite.settings, on_sqlite.folder / "lost.log")
    assert lost.process.wait(60) == 1
    assert "CATCHMENT_PROJECT is" in lost.log.read_text()

"""`catchment up` over stand-ins for the Prefect server, the API and the runner, which start at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catchment.stack.postgres import running_url
from tests.conftest import ROOT
from tests.library.serving.backend_contract import infer, ready, workload
from tests.library.serving.local_hosts import LocalHarness
from tests.library.stack.processes import alive, mentioning, until

SERVER = """
import http.server, os, pathlib, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
pid = pathlib.Path(os.environ["STANDINS"], "{name}.pid")
pid.with_suffix(".new").write_text(str(os.getpid()))
pid.with_suffix(".new").replace(pid)
{more}
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
RUNNER = """
import os, pathlib, signal
pid = pathlib.Path(os.environ["STANDINS"], "runner.pid")
pid.with_suffix(".new").write_text(str(os.getpid()))
pid.with_suffix(".new").replace(pid)
print("runner ready", flush=True)
signal.pause()
"""
END_S = 90.0
"""More than a system takes to end, whatever else the machine does."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("api", "flows", "prefect"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "prefect.yaml").touch()
    (folder / "api" / "__main__.py").write_text(SERVER.format(name="api", more=""))
    (folder / "prefect" / "__main__.py").write_text(SERVER.format(name="prefect", more=""))
    (folder / "flows" / "runner.py").write_text(RUNNER)
    return folder


class Up:
    """A running `catchment up`."""

    def __init__(self, project: Path, home: Path, *more: str) -> None:
        self.home, self.folder = home, project
        self.errors = project / "stderr"
        command = [sys.executable, "-m", "catchment.cli", "up", "--home", str(home), "--sites", "0"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")]),
            "CATCHMENT_PROJECT": str(project),
            "STANDINS": str(project),
        }
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, "--api-port", "0", "--prefect-port", "0", *more],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
            )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def said(self) -> str:
        return self.errors.read_text()

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def ended(self) -> tuple[int, str]:
        """Exit code, and what else it printed on stdout."""
        rest, _ = self.process.communicate(timeout=END_S)
        return self.process.returncode, rest


@pytest.fixture
def up(project: Path, tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*more: str) -> Up:
        started.append(Up(project, tmp_path / "home", *more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
        one.process.communicate(timeout=END_S)
    assert until(lambda: not mentioning(str(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_ready_once_and_a_signal_stops_all_of_it(
    up: Callable[..., Up], number: signal.Signals
) -> None:
    running = up()
    assert running.line().startswith("ready http://127.0.0.1:")
    processes = [running.pid(name) for name in ("api", "prefect", "runner")]
    assert all(alive(pid) for pid in processes)
    assert running_url(running.home / "postgres", "catchment") is not None
    running.process.send_signal(number)
    assert running.ended() == (0, "")
    assert not any(alive(pid) for pid in processes)
    assert running_url(running.home / "postgres", "catchment") is None
    assert "Prefect UI: http://127.0.0.1:" in running.said()
    assert "no token is needed" in running.said()


def test_killed_it_leaves_nothing_running(up: Callable[..., Up], tmp_path: Path) -> None:
    running = up()
    running.line()
    running.process.kill()
    running.process.wait(END_S)
    assert until(lambda: not mentioning(str(tmp_path)))


def test_a_part_that_cannot_start_ends_all_and_shows_its_log(up: Callable[..., Up], project: Path) -> None:
    broken = SERVER.format(name="api", more="raise SystemExit('the sky has fallen')")
    (project / "api" / "__main__.py").write_text(broken)
    running = up("--sqlite")
    assert running.ended() == (1, "")
    assert "Error: api ended with exit code 1" in running.said()
    assert "the sky has fallen" in running.said()


def test_a_part_that_dies_later_is_started_again(up: Callable[..., Up]) -> None:
    running = up("--sqlite")
    running.line()
    first = running.pid("runner")
    os.kill(first, signal.SIGKILL)
    assert until(lambda: running.pid("runner") != first)
    assert "runner was killed by SIGKILL; started again" in running.said()


@pytest.fixture
def served(up: Callable[..., Up], project: Path, tmp_path: Path) -> Iterator[tuple[Up, LocalHarness]]:
    """A running system whose serving host can start real model servers."""
    (project / "api" / "model_server").symlink_to(ROOT / "api" / "model_server")
    running = up("--sqlite")
    assert running.line().startswith("ready ")
    harness = LocalHarness(running.home, f"sqlite:///{running.home / 'catchment.db'}", tmp_path)
    yield running, harness
    harness.close()


def test_model_servers_outlive_their_host_and_end_with_the_system(served: tuple[Up, LocalHarness]) -> None:
    running, harness = served
    wanted = workload(harness, replicas=2)
    harness.backend.apply(wanted)
    ready(harness, wanted)
    pids = harness.pids(wanted)
    (host,) = [pid for pid in mentioning("catchment.serving.host") if pid in mentioning(str(running.home))]
    os.kill(host, signal.SIGKILL)
    assert until(lambda: "serving was killed by SIGKILL; started again" in running.said())
    harness.backend.apply(wanted.scaled(3))
    ready(harness, wanted.scaled(3))
    assert harness.pids(wanted)[:2] == pids
    for endpoint in harness.backend.endpoints(wanted):
        assert infer(endpoint, [1.0, 2.0]) == [1.0, 2.0]
    pids = harness.pids(wanted)
    running.process.send_signal(signal.SIGTERM)
    assert running.ended() == (0, "")
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("host_first", [False, True])
def test_no_model_server_outlives_a_system_that_was_killed(
    served: tuple[Up, LocalHarness], tmp_path: Path, host_first: bool
) -> None:
    running, harness = served
    wanted = workload(harness, replicas=2)
    harness.backend.apply(wanted)
    ready(harness, wanted)
    victims = [running.process.pid]
    if host_first:
        victims[:0] = [pid for pid in mentioning("--guard") if pid in mentioning(str(running.home))]
        assert len(victims) == 2
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    running.process.wait(END_S)
    assert until(lambda: not mentioning(str(tmp_path)))


def test_a_second_one_on_the_same_home_is_refused(up: Callable[..., Up]) -> None:
    first = up("--sqlite")
    first.line()
    second = up("--sqlite")
    assert second.ended() == (1, "")
    assert f"another 'catchment up' (process {first.process.pid}) runs on" in second.said()


def test_a_signal_while_it_starts_stops_it(up: Callable[..., Up], project: Path) -> None:
    (project / "flows" / "runner.py").write_text(RUNNER.replace("runner ready", "still starting"))
    running = up("--sqlite")
    assert until((project / "runner.pid").exists)
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == (0, "")
    assert not alive(running.pid("runner"))


def test_data_are_there_after_a_restart(up: Callable[..., Up]) -> None:
    import psycopg

    first = up()
    first.line()
    url = running_url(first.home / "postgres", "catchment")
    assert url is not None
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    first.process.send_signal(signal.SIGTERM)
    assert first.ended()[0] == 0
    second = up()
    second.line()
    url = running_url(second.home / "postgres", "catchment")
    assert url is not None
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_with_a_database_of_ones_own_no_postgres_is_started(up: Callable[..., Up], tmp_path: Path) -> None:
    running = up("--database-url", f"sqlite:///{tmp_path / 'own.db'}")
    assert running.line().startswith("ready ")
    assert (tmp_path / "own.db").exists()
    assert not (running.home / "postgres").exists()
    assert not (running.home / "database").exists()


def test_without_a_token_nobody_else_may_reach_it(up: Callable[..., Up]) -> None:
    running = up("--host", "0.0.0.0")
    assert running.ended() == (1, "")
    assert "without TLS tokens and models travel in plain text: give --tls DIR" in running.said()
    running = up("--host", "0.0.0.0", "--insecure-http")
    assert running.ended() == (1, "")
    assert "catchment token create --role admin --home" in running.said()


def test_a_folder_without_certificates_is_refused_before_anything_starts(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    running = up("--tls", str(tmp_path / "tls"))
    assert running.ended() == (1, "")
    assert f"has no ca.pem; 'catchment tls init --dir {tmp_path / 'tls'}' makes one" in running.said()
    assert not running.home.exists()


def test_processes_are_given_their_certificates(tmp_path: Path) -> None:
    from catchment.stack import tls
    from catchment.stack.options import StackOptions
    from tests.certificates import authority

    made = authority(tmp_path / "tls", "site-1")
    kept = made.site("site-1").certificate.read_bytes()
    options = StackOptions(home=tmp_path, tls=tmp_path / "tls", sites=2)
    tls.check_transport(options)
    tls.prepare_certificates(options)
    assert made.site("site-1").certificate.read_bytes() == kept
    assert options.local_api_url == "https://127.0.0.1:8080"
    for words in (tls.api_tls(options), tls.site_tls(options, "site-1"), tls.site_tls(options, "site-2")):
        assert len(words) == 6
        assert all(Path(path).is_file() for path in words[1::2])


def test_sites_need_what_they_are_given(tmp_path: Path) -> None:
    """Each local site gets a folder, its part of the digits, and a file that names it."""
    import json

    from catchment.stack.local_sites import prepare_sites
    from catchment.stack.options import StackOptions

    prepare_sites(StackOptions(home=tmp_path, sites=2), lambda sentence: None)
    for name in ("site-1", "site-2"):
        home = tmp_path / "sites" / name
        assert (home / "entries").is_dir()
        folder = json.loads((home / "datasets.json").read_text())["digits"]
        assert {path.name for path in Path(folder).iterdir()} >= {"train.npz", "test.npz"}


def test_without_scikit_learn_sites_start_without_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catchment.stack import local_sites
    from catchment.stack.options import StackOptions

    monkeypatch.setattr(local_sites, "digits_available", lambda: False)
    said: list[str] = []
    local_sites.prepare_sites(StackOptions(home=tmp_path, sites=1), said.append)
    assert "scikit-learn is not installed" in said[0]
    assert (tmp_path / "sites" / "site-1" / "datasets.json").read_text().strip() == "{}"

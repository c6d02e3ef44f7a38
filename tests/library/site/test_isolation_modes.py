"""Which scripts are isolated, and what is said where that cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catchment.site.launch import Launcher
from catchment.site.policy import IsolationMode, Policy
from catchment.wire.messages import SentScripts, WorkOrder
from tests.library.site.exchange_double import ExchangeDouble
from tests.library.site.isolated import SOURCES, Site, allowed, archive_of


@allowed
def test_entries_are_isolated_only_when_asked(tmp_path: Path, add_entry: Callable[..., None]) -> None:
    add_entry("e", "import os, catchment.sdk as fl; fl.commit_metrics({'pid': os.getpid()})")
    pids = {}
    for asked in (True, False):
        folder = tmp_path / str(asked)
        folder.mkdir()
        site = Site(folder, Launcher(), isolate_entries=asked, entries=tmp_path / "entries")
        result = site.run("", kind="evaluate", scripts=None, task_entry="e")
        assert result.status == "done", result
        pids[asked] = result.metrics["pid"]
    assert pids[True] < 10 < pids[False]


@allowed
@pytest.mark.parametrize("mode", ["auto", "require"])
def test_everything_is_enforced_here_and_reported(tmp_path: Path, mode: IsolationMode) -> None:
    site = Site(tmp_path, Launcher(), isolation=mode)
    report = site.report()
    assert (report.files, report.network, report.processes, report.privileges) == (True,) * 4
    assert set(report.missing) <= {"user"}
    assert (
        site.run("import catchment.sdk as fl; fl.commit_metrics({'a': 1})", kind="evaluate").status == "done"
    )


def test_nothing_is_tried_where_nothing_is_sent(tmp_path: Path) -> None:
    assert Site(tmp_path, Launcher(), policy=Policy("never")).isolator.report is None


def test_isolation_that_is_switched_off_is_reported(tmp_path: Path) -> None:
    report = Site(tmp_path, Launcher(), isolation="off").report()
    assert report.mode == "off"
    assert not report.files
    assert set(report.missing) == {"files", "network", "processes", "privileges", "user"}


def test_a_sandbox_that_fails_later_fails_the_work_and_never_runs_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, Launcher())
    if not site.report().files:
        pytest.skip("this host allows no namespaces")
    mark = tmp_path / "mark"
    monkeypatch.setattr(
        "catchment.site.view.read_only", lambda path: [_missing(path)] if str(path) == str(site.data) else []
    )
    result = site.run(f"open({str(mark)!r}, 'w')")
    assert result.reason.startswith("main.py was not started: it cannot be isolated now (files: "), result
    assert not mark.exists()


def _missing(path: Path | str) -> Any:
    from catchment.site.file_tree import Place as Shown

    return Shown(str(path), "read", "/there/is/no/such/folder")


# A user namespace in which no other may be made: what a host looks like that allows none.
FORBIDDEN = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'


def without_namespaces(*command: str, **options: Any) -> subprocess.Popen[bytes]:
    line = ["unshare", "-Ur", "sh", "-c", FORBIDDEN, "sh", *command]
    return subprocess.Popen(line, stdin=subprocess.DEVNULL, **options)


@allowed
@pytest.mark.parametrize("mode", ["auto", "require"])
def test_a_host_without_namespaces_is_said_so_in_log_and_registration(
    tmp_path: Path, exchange: ExchangeDouble, order: Callable[..., WorkOrder], mode: str
) -> None:
    scripts = SentScripts(
        archive=exchange.add_blob(archive_of("import catchment.sdk as fl; fl.commit_metrics({'a': 1})")),
        config_file="entry.json",
        folder="scripts",
    )
    log = tmp_path / "log"
    options = ["--name", "site-1", "--server", exchange.url, "--home", str(tmp_path / "home"), "--cold"]
    start = "import sys; from catchment.cli.site import site; site()"
    with log.open("wb") as out:
        agent = without_namespaces(
            sys.executable,
            "-c",
            start,
            "start",
            *options,
            *("--allow-scripts", "always", "--isolation", mode),
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
    try:
        work = order(None, scripts=scripts, kind="evaluate")
        exchange.publish(work)
        result = exchange.result(work.work_id, 60)
        isolation = exchange.registrations[0].isolation
    finally:
        agent.terminate()
        agent.wait(timeout=10)
    assert isolation is not None
    assert not any((isolation.files, isolation.network, isolation.processes, isolation.user))
    assert isolation.missing["network"].startswith("no user namespace: ")
    assert "WARNING isolation of scripts mode=" in log.read_text()
    assert "enforced=nothing" in log.read_text()
    if mode == "auto":
        assert result.status == "done", result
    else:
        assert result.status == "failed"
        assert "this site runs scripts only where it can isolate them" in result.reason


# What an agent that is no root does, with the keeper alone: the tests' Python may be out of its reach.
UNPRIVILEGED = """
import json, os, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
from catchment.site.file_tree import Place
from catchment.site.launch_file import Launch
from catchment.site.limits import Limits
from catchment.site.sandbox import Sandbox
folder = sys.argv[2]
places = [Place(path, "read", path) for path in ("/usr", "/etc/ld.so.cache", sys.argv[1])]
links = [name for name in ("bin", "lib", "lib64") if os.path.islink(f"/{name}")]
places += [Place(f"/{name}", "link", f"usr/{name}") for name in links]
places += [Place("/dev/null", "device", "/dev/null"), Place(folder + "/task", "write", folder + "/task")]
program = '''
import json, os
status = open("/proc/self/status").read()
print(json.dumps({
  "uid": os.getuid(), "processes": sum(name.isdigit() for name in os.listdir("/proc")),
  "secret": os.path.exists("FOLDER/secret"),
  "bounded": int(status.split("CapBnd:")[1].split()[0], 16),
  "effective": int(status.split("CapEff:")[1].split()[0], 16),
  "barred": "NoNewPrivs:\\\\t1" in status}))
open("made", "w")
'''.replace("FOLDER", folder)
argv = ("/usr/bin/env", sys.executable, "-I", "-S", "-c", program)
launch = Launch(argv=argv, script="", cwd=folder + "/task",
  env={"PATH": "/usr/bin"}, rank_env=({},), timeout_s=20, limits=Limits(1000, 0, 10, 1),
  sandbox=Sandbox(True, True, True, True, tuple(places), folder + "/task", 1))
ours, theirs = socket.socketpair()
keeper = subprocess.Popen([sys.executable, "-P", "-m", "catchment.site.keeper", str(theirs.fileno()), "1"],
  pass_fds=[theirs.fileno()], env={"PYTHONPATH": sys.argv[1]})
theirs.close()
ours.sendall(launch.to_json())
for line in ours.makefile("rb"):
    print(line.decode(), file=sys.stderr)
"""


@allowed
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.needs("setpriv")
def test_an_agent_that_is_no_root_isolates_as_well(tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    new_enough = subprocess.run(
        [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False, capture_output=True
    )
    if new_enough.returncode:
        pytest.skip("the system has no Python that this test can use")
    with _open_folder() as folder:
        (Path(folder) / "secret").write_text("")
        (Path(folder) / "task").mkdir()
        (Path(folder) / "task").chmod(0o777)
        who = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        ended = subprocess.run(
            [*who, python, "-c", textwrap.dedent(UNPRIVILEGED), SOURCES, folder],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (Path(folder) / "task" / "made").exists(), ended
    seen = json.loads(ended.stdout)
    assert seen == {
        "uid": 65534,
        "processes": 2,
        "secret": False,
        "bounded": 0,
        "effective": 0,
        "barred": True,
    }


def _open_folder() -> Any:
    """A temporary folder that others can enter; pytest's are the owner's alone."""
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="catchment-test-")
    Path(folder.name).chmod(0o755)
    return folder

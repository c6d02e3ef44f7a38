"""Isolated scripts: what they cannot do, what still works, and what is said where it cannot be had."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import catchment
from catchment.site.config import SiteConfig
from catchment.site.home import Home
from catchment.site.http import Endpoint
from catchment.site.isolation import Isolator
from catchment.site.launch import Launcher
from catchment.site.placement import Place
from catchment.site.policy import IsolationMode, Policy
from catchment.site.runner import Runner
from catchment.site.work import Work
from catchment.wire.messages import Blob, Isolation, SentScripts, SiteResources, WorkOrder, WorkResult
from tests.library.site.exchange_double import ExchangeDouble
from tests.library.site.test_scripts import ALL_REDUCE, TORCH_STEP

SOURCES = str(Path(catchment.__file__).resolve().parent.parent)
WEIGHTS = Blob(digest="sha256:" + "0" * 64, size_bytes=1)

# A host may forbid namespaces (a container's seccomp filter does); what is tested then is that it is said.
allowed = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "-Urmnp", "--fork", "--mount-proc", "true"], check=False, capture_output=True
    ).returncode
    != 0,
    reason="this host allows no namespaces",
)


class Site:
    """One site's runner, with scripts that come with the work."""

    def __init__(self, folder: Path, launcher: Launcher, **config: Any) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text("the-sites-token")
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "patients.csv").write_text("1,2,3")
        (folder / "other").mkdir()
        (folder / "other" / "patients.csv").write_text("4,5,6")
        self.home = Home(folder / "home")
        for part in (self.home.work, self.home.logs, self.home.cache, self.home.outbox):
            part.mkdir(parents=True)
        values: dict[str, Any] = {
            "name": "site-1",
            "endpoint": Endpoint("http://127.0.0.1:1"),
            "home": self.home.folder,
            "address": "site-1",
            "datasets": {"patients": self.data, "other": folder / "other"},
            "entries": folder / "entries",
            "runtimes": ("pytorch", "keras"),
            "resources": SiteResources(cpu=2, memory_mb=8000),
            "policy": Policy("always"),
            "secrets": (self.token,),
        }
        self.config = SiteConfig(**{**values, **config})
        self.isolator = Isolator.tried_out(self.config, self.home)
        self._source = ""
        self._runner = Runner(self.config, self.home, launcher, self._fetch, isolator=self.isolator)
        self._count = 0

    def _fetch(self, work: Work, blob: Blob, target: Path) -> None:
        if target.name == ".archive.zip":
            target.write_bytes(_archive(self._source))
            return
        save_file({"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(3, np.float32)}, target)

    def run(self, source: str, **order: Any) -> WorkResult:
        """Run a sent script."""
        self._source = source
        self._count += 1
        values: dict[str, Any] = {
            "work_id": f"w{self._count}",
            "kind": "train",
            "namespace": "default",
            "job_id": "digits",
            "run": 1,
            "round": 1,
            "attempt": 0,
            "runtime": "pytorch",
            "weights": WEIGHTS,
            "scripts": SentScripts(archive=WEIGHTS, config_file="entry.json", folder="scripts"),
            "datasets": ("patients",),
            "seed": 1,
            "timeout_s": 60.0,
        }
        self.work = Work.accept(self.home.work, WorkOrder(**{**values, **order}))
        return self._runner.run(self.work, Place())

    def report(self) -> Isolation:
        assert self.isolator.report is not None
        return self.isolator.report


def _archive(source: str) -> bytes:
    entry = {"train": {"entry": "main.py"}, "evaluate": {"entry": "main.py"}}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("entry.json", json.dumps(entry))
        archive.writestr("main.py", source)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher(["pytorch", "keras"])
    launcher.preload("pytorch")
    yield launcher
    launcher.close()


@pytest.fixture(params=[True, False], ids=["warm", "cold"])
def warm(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def site(tmp_path: Path, launcher: Launcher, warm: bool) -> Site:
    return Site(tmp_path, launcher if warm else Launcher())


HOSTILE = """
import json, os, signal, socket, subprocess, sys
import catchment.sdk as fl
port, token, other_work, other_data, agent, abstract = TRICKS
assert fl.get_dataset_path("patients") == DATA
def works(act):
    try:
        act()
    except OSError as error:
        return ""
    return "works"
def abstract_socket():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(abstract)
task = os.path.dirname(os.environ["CATCHMENT_TASK"])
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
seen = {
  "network": works(lambda: socket.create_connection(("127.0.0.1", port), 2)),
  "abstract socket": works(abstract_socket),
  "spoil data": works(lambda: open(DATA + "/patients.csv", "a")),
  "add data": works(lambda: open(DATA + "/more", "w")),
  "token": works(lambda: open(token)),
  "another work": works(lambda: os.listdir(other_work)),
  "other data": works(lambda: open(other_data)),
  "agent's home": works(lambda: open(HOME + "/agent.lock")),
  "outbox": works(lambda: os.listdir(HOME + "/outbox")),
  "shadow": works(lambda: open("/etc/shadow")),
  "root's home": works(lambda: open(os.path.expanduser("~root") + "/.bashrc")),
  "disk": works(lambda: open("/dev/vda", "rb")),
  "kill the agent": works(lambda: os.kill(agent, 0)),
  "write a program": works(lambda: open("/usr/bin/x-catchment", "w")),
  "core pattern": works(lambda: open("/proc/sys/kernel/core_pattern", "w")),
  "replace weights": works(lambda: os.rename(task + "/weights.safetensors", task + "/gone")),
  "mount": "" if libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) else "works",
  "new namespaces": "" if libc.unshare(0x10000000) else "works",
  "become root": works(lambda: os.setuid(0)),
}
print(json.dumps({
  "broken": [name for name, worked in seen.items() if worked],
  "processes": sum(name.isdigit() for name in os.listdir("/proc")),
  "uid": os.getuid(), "home": os.environ["HOME"] == os.environ["TMPDIR"],
  "data": open(DATA + "/patients.csv").read(),
  "secret": os.environ.get("SITE_PASSWORD"),
  "initial": b"SITE_PASSWORD" in open("/proc/self/environ", "rb").read(),
  "root": sorted(os.listdir("/")),
}))
open("/tmp/scratch", "w").write("x")
open("notes.txt", "w").write("x")
assert os.path.exists(os.environ["TMPDIR"] + "/scratch")
raise SystemExit(7)
"""


@allowed
def test_a_hostile_script_reaches_nothing_but_its_task_and_its_data(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_PASSWORD", "hunter2")
    other_work = site.home.work / "other"
    other_work.mkdir()
    (site.home.folder / "agent.lock").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0catchment-test-{os.getpid()}-{time.monotonic_ns()}"
        abstract.bind(name)
        abstract.listen()
        tricks = [
            server.getsockname()[1],
            str(site.token),
            str(other_work),
            str(tmp_path / "other" / "patients.csv"),
            os.getpid(),
            name,
        ]
        head = f"TRICKS = {tricks!r}\nDATA = {str(site.data)!r}\nHOME = {str(site.home.folder)!r}\n"
        result = site.run(head + HOSTILE)
    assert result.reason.startswith("main.py ended with exit code 7"), result
    seen = json.loads(result.log_tail.splitlines()[0])
    assert seen["broken"] == []
    assert seen["processes"] <= 3
    assert seen["data"] == "1,2,3"
    assert seen["home"]
    assert seen["secret"] is None
    assert not seen["initial"], "what the fork server was started with must not show, either"
    assert not {"root", "home", "mnt", "srv", "boot", ".outside"} & set(seen["root"]) - {
        Path(sys.base_prefix).parts[1],
        Path(sys.prefix).parts[1],
        Path(SOURCES).parts[1],
    }
    if os.geteuid() == 0:
        assert seen["uid"] not in (0, 65534)
    assert (site.data / "patients.csv").read_text() == "1,2,3"
    assert not (site.data / "more").exists()


@allowed
def test_torch_trains_as_ever(site: Site) -> None:
    result = site.run(TORCH_STEP.replace("BEGUN", "0"))
    assert result.status == "done", result
    update = load_file(site.work.task_folder / "update.safetensors")
    np.testing.assert_allclose(update["bias"], np.full(3, -0.4), rtol=1e-6)


@allowed
def test_an_isolated_warm_start_takes_less_than_a_tenth_of_a_second(
    tmp_path: Path, launcher: Launcher
) -> None:
    assert launcher.servers["pytorch"].wait_ready(60)
    site = Site(tmp_path, launcher)
    begun = []
    for _ in range(20):  # other processes want the cores as well
        asked = time.time()
        result = site.run(
            "import time, torch; begun = time.time()\nimport catchment.sdk as fl\n"
            "fl.commit_metrics({'begun': begun})",
            kind="evaluate",
        )
        assert result.status == "done", result
        begun.append(result.metrics["begun"] - asked)
        if begun[-1] < 0.1:
            return
    pytest.fail(f"never, on this machine: {begun}")


@allowed
def test_two_workers_meet_on_the_loopback_of_their_sandbox(site: Site) -> None:
    result = site.run(ALL_REDUCE, resource={"worker_num": 2})
    assert result.status == "done", result
    assert result.metrics == {"sample_num": 2, "rank": 0}


LOADERS = """
import torch
from torch.utils.data import DataLoader, TensorDataset
import catchment.sdk as fl
loader = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=8, num_workers=2)
fl.commit_metrics({"sum": sum(float(part[0].sum()) for part in loader)})
"""


@allowed
def test_data_loaders_of_several_processes_work(tmp_path: Path, launcher: Launcher) -> None:
    result = Site(tmp_path, launcher).run(LOADERS, kind="evaluate", resource={"memory": 3000})
    assert result.metrics == {"sum": 2016.0}, result


KERAS = """
import keras, catchment.sdk as fl
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
model.predict(__import__("numpy").ones((1, 2)), verbose=0)
fl.commit_metrics({"keras": keras.__version__})
"""


@allowed
def test_keras_works(site: Site) -> None:
    result = site.run(KERAS, kind="evaluate", runtime="keras", resource={"memory": 3000})
    assert result.status == "done", result


@allowed
def test_what_a_script_leaves_running_is_ended(site: Site) -> None:
    source = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True)\n"
        "import catchment.sdk as fl; fl.commit_metrics({'a': 1})"
    )
    begun = time.monotonic()
    assert site.run(source, kind="evaluate").status == "done"
    assert time.monotonic() - begun < 30


@allowed
def test_limits_hold_inside(site: Site) -> None:
    hung = site.run("import time; print('in'); time.sleep(99)", timeout_s=2.0)
    assert hung.reason == "main.py hung past its time of 2 s and was killed"
    hog = site.run(
        "import time\nkept = []\n"
        "for _ in range(40):\n    kept.append(b'x' * 20_000_000)\n    time.sleep(0.02)\ntime.sleep(60)",
        resource={"memory": 300},
    )
    assert hog.reason.startswith("main.py used "), hog


@allowed
def test_links_that_a_script_leaves_are_not_followed(site: Site) -> None:
    source = (
        "import os\nfolder = os.path.dirname(os.environ['CATCHMENT_TASK'])\n"
        f"os.symlink({str(site.home.folder / 'private.json')!r}, folder + '/metrics.json')"
    )
    (site.home.folder / "private.json").write_text('{"password": "hunter2"}')
    result = site.run(source, kind="evaluate")
    assert "committed no metrics" in result.reason
    assert "hunter2" not in result.model_dump_json()


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
        archive=exchange.add_blob(_archive("import catchment.sdk as fl; fl.commit_metrics({'a': 1})")),
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

"""Functions that fail: the round ends with a reason that names the field, and the weights stay."""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catchment.errors import ExtenderFailed, JobStopped
from catchment.jobs import lifecycle
from catchment.rounds import broadcasting, collect, run, select
from catchment.store import Store
from catchment.wire.messages import WorkOrder, WorkResult
from tests.conftest import wait_until
from tests.library.extenders.conftest import Driver, send_files
from tests.thread_sites import add_one

AGGREGATE = "def aggregate(update, previous):\n    import numpy as np\n    start = update['global_weights']\n"
WEIGHTS = "    return {'weights': {'w': %s, 'steps': start['steps']}}\n"


def blobs_of(store: Store) -> set[Path]:
    return {path for path in (store.settings.home / "blobs" / "sha256").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    raise ValueError('no\\x00 way')", r"ValueError: no way; its output ends with: .*line \d+"),
        ("    return None", "returned None for the update of a, a dict is required"),
        ("    return [1]", "returned a list for the update of a"),
        ("    return {'weights': [1]}", "returned a list as weights"),
        (WEIGHTS % "[[1, 2, 3], [4, 5, 6]]", "returned a list as weights of 'w', a numpy array is required"),
        (WEIGHTS % "start['w'][0]", r"wrong shape: w \[3\] instead of \[2, 3\]"),
        (WEIGHTS % "start['w'] * np.nan", "tensor 'w' holds NaN or infinite values"),
        (WEIGHTS % "start['w'] + np.inf", "tensor 'w' holds NaN or infinite values"),
        (WEIGHTS % "start['w'].astype('f8')", "wrong dtype: w F64 instead of F32"),
        (WEIGHTS % "start['w'].astype(object)", "dtype object cannot be stored"),
        ("    return {'weights': {'w': start['w']}}", "missing: steps"),
        ("    return {'weights': {**start, 'x': start['w']}}", "unexpected: x"),
        ("    raise SystemExit(0)", "SystemExit: 0"),
        ("    import os; os._exit(0)", "ended without a usable result, with exit code 0"),
        ("    import os; os.kill(os.getpid(), 11)", "ended without a usable result, with signal SIGSEGV"),
        ("    return np.empty(int(4e11), 'u1')", "MemoryError"),
        ("    import nothing_like_it", "ModuleNotFoundError"),
    ],
)
def test_a_failing_aggregate_fails_the_round_and_changes_nothing(driver, make_site, body, reason):
    make_site("a")
    make_site("b")
    claim = driver.begin(f"{AGGREGATE}{body}\n", "aggregate")
    before = None

    def snapshot() -> None:
        nonlocal before
        before = blobs_of(driver.store)

    select.select_cohort(driver.store, claim, 1)
    select.publish_work(driver.store, claim, 1)
    collect.collect_updates(driver.store, claim, 1)
    snapshot()
    with pytest.raises(ExtenderFailed, match=reason) as failed:
        driver.trained(claim, 1)
    assert str(failed.value).startswith("extenders.aggregate: ")
    assert blobs_of(driver.store) == before
    run.fail_run(driver.store, claim, str(failed.value))
    shown = lifecycle.get_job(driver.store, "default", "j")["status"]
    assert (shown["state"], shown["progress"]) == ("FAILED", 0)
    assert "extenders.aggregate" in shown["reason"]


def test_after_a_failure_a_start_goes_on_with_the_mended_script(driver, make_site):
    make_site("a")
    make_site("b")
    claim = driver.begin("def aggregate(update, previous):\n    return None\n", "aggregate")
    with pytest.raises(ExtenderFailed) as failed:
        driver.trained(claim, 1)
    run.fail_run(driver.store, claim, str(failed.value))
    driver.write_script("def aggregate(update, previous):\n    return {}\n")
    summary = driver.drive(driver.start("another"))
    assert summary["rounds"] == 3
    assert summary["run"] == 1


def test_a_hanging_function_is_ended_after_its_time_with_all_that_it_started(make_site, with_settings):
    driver: Driver = with_settings(extender_timeout_s=1.5)
    make_site("a")
    make_site("b")
    source = """
    import os, subprocess, sys, time
    def aggregate(update, previous):
        line = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = subprocess.Popen(line, start_new_session=True)
        with open(CALLS, "w") as file:
            file.write(f"{os.getpid()}\\n{child.pid}\\n")
        print("about to hang")
        time.sleep(600)
    """
    claim = driver.begin(source, "aggregate")
    began = time.monotonic()
    with pytest.raises(ExtenderFailed, match=r"aggregate: took longer than 1\.5 s"):
        driver.trained(claim, 1)
    assert time.monotonic() - began < 15
    pids = [int(line) for line in driver.called()]
    assert len(pids) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in pids), timeout_s=5, what="the processes to end")


@pytest.mark.parametrize("step", ["broadcast", "aggregate", "finish"])
def test_a_stop_kills_the_child_at_once(driver, make_site, step):
    make_site("a")
    make_site("b")
    source = f"""
    import os, time
    def {step}(*arguments):
        with open(CALLS + ".new", "w") as file:
            file.write(f"{{os.getpid()}}")
        os.rename(CALLS + ".new", CALLS)
        time.sleep(600)
    """
    claim = driver.begin(source, step)
    ended: list[BaseException] = []

    def drive() -> None:
        try:
            driver.one_round(claim, 1)
        except JobStopped as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=drive)
    thread.start()
    wait_until(driver.called, timeout_s=20, what="the call")
    lifecycle.request_stop(driver.store, "default", "j")
    thread.join(10)
    assert ended
    assert not is_alive(int(driver.called()[0]))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("None", "returned None, two dicts are required"),
        ("({}, None)", "returned None as parameters"),
        ("([], {})", "returned a list as files"),
        ("({'x': 'missing'}, {})", "'missing' as file 'x', which is no file"),
        ("({'x': '.'}, {})", "which is no file"),
        ("({'../x': 'f'}, {})", "'../x' is no plain file name"),
        ("({'..': 'f'}, {})", "'..' is no plain file name"),
        ("({'a/b': 'f'}, {})", "'a/b' is no plain file name"),
        ("({'n' * 201: 'f'}, {})", "is no plain file name"),
        ("({'a\\0b': 'f'}, {})", "is no plain file name"),
        ("({'\\udcff': 'f'}, {})", "extenders.broadcast"),
        ("({}, {'p': float('nan')})", "is nan"),
        ("({}, {'p': object()})", "is a object"),
        ("({}, {1: 2})", "keys must be text"),
        ("({}, {'p': '\\udcff'})", "its parameters cannot be sent"),
        ("({}, {'p': 'x' * 5_000_000})", "bytes, 4194304 are allowed"),
        ("({'f': 'f'}, 1 / 0)", "ZeroDivisionError"),
    ],
)
def test_a_broadcast_that_cannot_be_sent_fails_before_anything_is_published(
    driver, make_site, returned, reason
):
    make_site("a")
    make_site("b")
    source = f"def broadcast(parameters):\n    open('f', 'w').write('x')\n    return {returned}\n"
    claim = driver.begin(source, "broadcast")
    select.select_cohort(driver.store, claim, 1)
    with pytest.raises(ExtenderFailed, match=reason):
        broadcasting.broadcast(driver.store, claim, 1, "train")
    assert lifecycle.job_rounds(driver.store, "default", "j")[0]["state"] == "selected"


def test_files_beyond_the_limit_are_not_broadcast(make_site, with_settings):
    driver: Driver = with_settings(max_files_bytes=1000)
    make_site("a")
    make_site("b")
    source = "def broadcast(p):\n    open('f', 'w').write('x' * 1001)\n    return {'f': 'f'}, {}\n"
    claim = driver.begin(source, "broadcast")
    with pytest.raises(ExtenderFailed, match="its files are 1001 bytes, 1000 are allowed"):
        driver.trained(claim, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("os.symlink('/etc/passwd', result['output'] + '/x')", "neither a file nor a folder"),
        ("os.mkfifo(result['output'] + '/x')", "neither a file nor a folder"),
        ("open(result['output'] + '/a\\\\b', 'w')", "no name for a file"),
        ("open(os.fsencode(result['output']) + b'/\\xff', 'w')", "no name for a file"),
        ("open(result['output'] + '/x', 'w').write('y' * 10_001)", "files of 10001 bytes"),
    ],
)
def test_a_failing_finish_is_told_and_the_round_stays_committed(make_site, with_settings, body, reason):
    driver: Driver = with_settings(max_files_bytes=10_000)
    make_site("a")
    make_site("b")
    claim = driver.begin(f"import os\ndef finish(result):\n    {body}\n", "finish")
    with pytest.raises(ExtenderFailed, match=rf"extenders.finish: .*{reason}"):
        driver.one_round(claim, 1)
    assert lifecycle.job_rounds(driver.store, "default", "j")[0]["state"] == "committed"
    assert not driver.folder("out/j_V1/extender").exists()


def test_what_aggregate_leaves_for_finish_must_be_values(driver, make_site):
    make_site("a")
    make_site("b")
    source = (
        "def aggregate(u, p):\n    return {'odd': object()}\ndef finish(result):\n    assert result is None\n"
    )
    claim = driver.begin(source, "aggregate", "finish")
    with pytest.raises(ExtenderFailed, match=r"what finish cannot be given: the result\['odd'\] is a object"):
        driver.trained(claim, 1)


def test_the_child_sees_no_secret_no_network_and_its_own_folder_alone(driver, make_site, monkeypatch):
    monkeypatch.setenv("CATCHMENT_DATABASE_URL", "postgresql://hidden-word")
    monkeypatch.setenv("PREFECT_API_KEY", "hidden-word")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-word")
    make_site("a")
    make_site("b")
    source = """
    import json, os, resource, socket
    def aggregate(update, previous):
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        except OSError as error:
            network = error.strerror
        said = {
            "environment": dict(os.environ), "folder": os.getcwd(), "network": network,
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "memory": resource.getrlimit(resource.RLIMIT_DATA)[0],
        }
        with open(CALLS, "w") as file:
            file.write(json.dumps(said))
        return {}
    """
    driver.trained(driver.begin(source, "aggregate"), 1)
    said = json.loads(driver.called()[0])
    assert "hidden-word" not in str(said["environment"])
    assert not [name for name in said["environment"] if name.startswith(("CATCHMENT_", "PREFECT_"))]
    assert said["folder"] == said["environment"]["HOME"]
    assert said["core"] == 0
    assert said["memory"] == driver.store.settings.extender_memory_mb * 1_000_000
    if os.geteuid() == 0:
        assert said["network"] == "Network is unreachable"


def hostile(name: str) -> Any:
    def write(path: Path) -> None:
        made = zipfile.ZipInfo("x")
        made.filename = name
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(made, b"evil")

    return write


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            zipped.writestr("x", b"2")


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x", b"\0" * 3_000_000)


def link(path: Path) -> None:
    made = zipfile.ZipInfo("x")
    made.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr(made, b"/etc/passwd")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (hostile("../x"), "no plain relative path"),
        (hostile("/x"), "no plain relative path"),
        (hostile("a/b"), "folders are not allowed"),
        (hostile("n" * 300), "more than 255 bytes"),
        (twice, "twice"),
        (link, "neither a file nor a folder"),
        (bomb, "more than 2000000 bytes when unpacked"),
        (lambda path: path.write_bytes(b"no zip"), "no usable zip"),
    ],
)
def test_a_site_that_sends_bad_files_is_rejected_and_the_others_count(
    make_site, with_settings, tmp_path, write, reason
):
    driver: Driver = with_settings(max_files_bytes=2_000_000)

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> WorkResult:
        archive = tmp_path / f"{order.work_id}.zip"
        write(archive)
        update, metrics = add_one(order, weights)
        sent = bad.upload(order, update)
        files = send_files(bad, order.work_id, archive)
        return WorkResult(status="done", metrics=metrics, update=sent, files=files)

    bad = make_site("a", train=train)
    make_site("b")
    source = "def aggregate(update, previous):\n    assert update['client_id'] == 'b'\n    return {}\n"
    claim = driver.begin(
        source, "aggregate", hyper_parameters={"threshold_client_num": 1, "max_round_num": 1}
    )
    driver.trained(claim, 1)
    outcomes = {site["site"]: site for site in lifecycle.job_rounds(driver.store, "default", "j")[0]["sites"]}
    assert outcomes["a"]["outcome"] == "rejected"
    assert reason in outcomes["a"]["reason"]
    assert outcomes["b"]["outcome"] == "admitted"


def test_files_that_nobody_wants_are_refused(store, make_site, tmp_path):
    refused: list[str] = []

    def train(order: WorkOrder, weights: dict[str, np.ndarray]) -> Any:
        archive = tmp_path / f"{order.work_id}.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("x", b"1")
        try:
            send_files(site, order.work_id, archive)
        except Exception as error:  # noqa: BLE001 - told below
            refused.append(str(error))
        return add_one(order, weights)

    site = make_site("a", train=train)
    make_site("b")
    driver = Driver(store)
    driver.trained(driver.begin("def finish(result):\n    return None\n", "finish"), 1)
    assert set(refused) == {"the job uses no files of its scripts; nothing asked for them"}

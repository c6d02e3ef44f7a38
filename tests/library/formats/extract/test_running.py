"""The child that reads: what it sees of the host, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from catchment.errors import ExtractionFailed
from catchment.formats.extract.running import DEFAULT, Limits, command, environment, run_extraction
from catchment.site import processes
from tests.conftest import wait_until
from tests.library.formats.extract.sampled import SAMPLES

CONFINED = """
import json, os, resource, socket, sys
sys.path.insert(0, {source!r})
from catchment.formats.extract.confining import confine
missing = confine(json.loads(sys.argv[1]))
try:
    socket.create_connection(("127.0.0.1", {port}), 1).close()
    network = "reached"
except OSError as error:
    network = type(error).__name__
try:
    open({target!r}, "w").write("x" * 4096)
    written = "written"
except OSError as error:
    written = type(error).__name__
print(json.dumps({{"missing": missing, "network": network, "written": written}}))
"""


def test_the_child_reaches_no_network_and_writes_no_file(tmp_path: Path) -> None:
    import socket

    source = str(Path(__file__).resolve().parents[4] / "src")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = CONFINED.format(source=source, port=server.getsockname()[1], target=str(tmp_path / "out"))
        limits = json.loads(command(tmp_path, "ONNX", DEFAULT)[-1])
        ran = subprocess.run(
            [sys.executable, "-I", "-c", code, json.dumps(limits)],
            capture_output=True,
            check=True,
            timeout=60,
        )
    told = json.loads(ran.stdout)
    assert told["written"] == "OSError" or not (tmp_path / "out").read_bytes()
    if not told["missing"]:
        assert told["network"] != "reached"


def test_no_secret_of_the_environment_is_handed_on() -> None:
    told = environment(
        {"PATH": "/bin", "CATCHMENT_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "PYTHONPATH": "/x"}
    )
    assert set(told) & {"CATCHMENT_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} == set()
    assert told["PATH"] == "/bin"


def test_nothing_runs_on_after_the_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x01" * 10_000_000)
    before = set(processes.descendants(os.getpid()))
    with pytest.raises(ExtractionFailed, match="longer than"):
        run_extraction(tmp_path, "ONNX", Limits(time_s=0.2))
    assert set(processes.descendants(os.getpid())) == before


def test_the_child_goes_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x01" * 50_000_000)
    source = str(Path(__file__).resolve().parents[4] / "src")
    code = (
        f"import sys; sys.path.insert(0, {source!r}); from pathlib import Path;"
        "from catchment.formats.extract.running import run_extraction;"
        f"run_extraction(Path({str(tmp_path)!r}), 'ONNX')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: processes.descendants(parent.pid), timeout_s=20, what="the child")
        child = processes.descendants(parent.pid)[0]
        # It has taken its limits on once it has the file mapped.
        wait_until(lambda: "m.onnx" in maps(child), timeout_s=20, what="the mapped file")
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: "m.onnx" not in maps(child), timeout_s=20, what="the child's end")


def maps(pid: int) -> str:
    """What a process has mapped; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_module_can_be_run_by_hand() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "catchment.formats.extract", str(SAMPLES / "onnx"), "ONNX"],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[4] / "src")},
    )
    assert json.loads(ran.stdout)["signature"]["layers"] == {"Gemm": 1, "Relu": 1}


def test_an_error_is_one_json_document_too(tmp_path: Path) -> None:
    ran = subprocess.run([*command(tmp_path, "ONNX", DEFAULT)], capture_output=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert json.loads(ran.stdout) == {"error": "the model needs a file *.onnx; there is no file"}

"""An original client of the Open Inference Protocol, Triton's, talks to the model server and the gateway."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catchment.settings import Settings
from catchment.store import open_store
from tests.api.serving import api_process
from tests.api.serving_rows import add_endpoint, add_serving
from tests.conftest import answers, free_port, wait_until
from tests.model_servers import linear, serving

CLIENT = "tritonclient[grpc,http]==2.73.0"
CALLS = Path(__file__).resolve().parent.parent / "triton_calls.py"
INSTALL_S = 240
THROUGH_THE_GATEWAY = """
import json, sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1], concurrency=4)
ready = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("m")]
inputs, a = [], np.arange(6, dtype=np.float32).reshape(2, 3)
for name in "ab":
    inputs.append(triton.InferInput(name, a.shape, "FP32"))
    inputs[-1].set_data_from_numpy(a)
asked = [client.async_infer("m", inputs) for _ in range(32)]
sums = all((each.get_result(timeout=30).as_numpy("sum") == a + a).all() for each in asked)
print(json.dumps({"ready": ready, "sums": sums}))
"""


@pytest.fixture(scope="session")
def triton_python() -> Path:
    """An interpreter with the client, outside of the checkout and kept.

    The client wants older versions of protobuf and ml_dtypes than the rest here.
    """
    given = os.environ.get("CATCHMENT_TEST_ENVIRONMENTS")
    cache = Path(given) if given else Path("~/.cache/catchment-test-environments").expanduser()
    folder = cache / CLIENT.replace("[grpc,http]==", "-")
    cache.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=INSTALL_S)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT]
            made = subprocess.run(pip, timeout=INSTALL_S, capture_output=True, text=True, check=False)
            if made.returncode and not os.environ.get("CI"):
                pytest.skip(f"{CLIENT} cannot be installed here: {made.stderr[-300:]}")
            assert made.returncode == 0, made.stderr
            (folder / "installed").touch()
    return python


def test_an_original_client_is_answered_over_rest_and_grpc(triton_python: Path, tmp_path: Path) -> None:
    with serving(linear(tmp_path / "model"), tmp_path / "log") as server:
        ran = subprocess.run(
            [triton_python, CALLS, str(server.http), str(server.grpc)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    tensor = {"datatype": "FP32", "shape": [-1, 3]}
    assert said["rest"]["metadata"]["inputs"] == [{"name": "a", **tensor}, {"name": "b", **tensor}]
    assert [each["name"] for each in said["grpc"]["metadata"]["outputs"]] == ["sum", "product"]
    for protocol in ("rest", "grpc"):
        got = said[protocol]
        assert got["health"] == [True, True, True]
        assert got["server"] == "catchment"
        total, product = [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]], [[0.0, 1.0, 4.0], [9.0, 16.0, 25.0]]
        assert got["all"] == {"sum": total, "product": product}
        assert got["product"] == {"product": product}
        assert got["many"] is True


def test_an_original_client_is_answered_through_the_gateway(
    triton_python: Path, home: Path, tmp_path: Path
) -> None:
    store = open_store(Settings(home=home))
    try:
        with (
            serving(linear(tmp_path / "model"), tmp_path / "log") as server,
            api_process(home, free_port()) as running,
        ):
            uid = add_serving(store, "m", {"m-default-r1": 100})
            add_endpoint(store, uid, "m-default-r1", server.http)
            wait_until(
                lambda: answers(f"{running.url}/serving/default/m/v2"), timeout_s=10, what="the serving"
            )
            ran = subprocess.run(
                [triton_python, "-c", THROUGH_THE_GATEWAY, f"{running.url[7:]}/serving/default/m"],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
    finally:
        store.close()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"ready": [True, True, True], "sums": True}


WRONG = {
    "model": ("404", "NOT_FOUND", "no model 'other'"),
    "version": ("404", "NOT_FOUND", "no version '9'"),
    "name": ("400", "INVALID_ARGUMENT", "not an input: 'c'"),
    "datatype": ("400", "INVALID_ARGUMENT", "inputs.a.datatype: must be FP32, not FP64"),
    "shape": ("400", "INVALID_ARGUMENT", "inputs.a.shape: must be [-1, 3]"),
    "sizes": ("400", "INVALID_ARGUMENT", "'n' is 1 in another dimension"),
    "output": ("400", "INVALID_ARGUMENT", "outputs.0.name: must be one of 'sum', 'product'"),
}


def test_an_original_client_hears_what_is_wrong(triton_python: Path, tmp_path: Path) -> None:
    with serving(linear(tmp_path / "model"), tmp_path / "log") as server:
        ran = subprocess.run(
            [triton_python, CALLS, str(server.http), str(server.grpc)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    said: dict[str, Any] = json.loads(ran.stdout)
    for case, (rest, call, sentence) in WRONG.items():
        for protocol, code in (("rest", rest), ("grpc", f"StatusCode.{call}")):
            status, message = said[protocol]["wrong"][case]
            assert (case, protocol, status) == (case, protocol, code)
            assert sentence in message

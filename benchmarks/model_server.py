"""The local model server beside bare onnxruntime and, where they are there, KServe's server and MLServer.

    python benchmarks/model_server.py [--seconds 2] [--repeats 3] [--kserve PYTHON] [--mlserver PYTHON]

Two models: a small MLP (64-64-10), and a CNN of 5.1 million parameters whose input has 602 kB. CPU is that of
the server's processes for one request; its floor is one `run` of onnxruntime in a bare process, one thread.
The clients run on the same machine and share its processors, so read times and rates as ratios; over gRPC the
client is Python and much of the time is its own. Servers and ways take turns, medians are shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

from model_server_load import grpc_raw, load_grpc, load_rest, rest_binary, rest_json, values_of  # noqa: E402
from table import Line, show  # noqa: E402

Load = Callable[[int, bytes, int, float], list[float]]
WAYS: dict[str, tuple[Callable[[Any], bytes], Load]] = {
    "REST JSON": (rest_json, load_rest),
    "REST binary": (rest_binary, load_rest),
    "gRPC": (grpc_raw, load_grpc),
}
SHAPES = {"mlp": (1, 64), "cnn": (1, 3, 224, 224)}
CONNECTIONS = {"mlp": (1, 16), "cnn": (2,)}
PEERS = ("kserve", "mlserver")
WITHOUT = {("mlserver", "REST binary")}
"""What a peer does not know: MLServer 1.7 has no binary tensors over REST."""
STARTS_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="each measurement takes so long")
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken of so many")
    for peer in PEERS:
        parser.add_argument(
            f"--{peer}", help=f"Python interpreter that has {peer} and onnxruntime, to measure it too"
        )
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as name:
        folder = Path(name)
        make_models(folder)
        for model in SHAPES:
            show(measure(folder, model, options), as_json=options.json)


def make_models(folder: Path) -> None:
    """`mlp/model.onnx` and `cnn/model.onnx`, with random weights."""
    random = np.random.default_rng(1)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1 / np.sqrt(np.prod(shape[1:]) or 1)
        return numpy_helper.from_array((random.standard_normal(shape) * scale).astype(np.float32), name)

    nodes, weights, last, channels = [], [], "x", 3
    for index, (out, stride) in enumerate([(32, 2), (64, 2), (128, 2), (256, 2), (512, 2), (768, 1)]):
        weights.append(weight(f"w{index}", out, channels, 3, 3))
        conv = {"strides": [stride] * 2, "pads": [1] * 4, "kernel_shape": [3, 3]}
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], **conv))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        last, channels = f"r{index}", out
    nodes += [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes.append(helper.make_node("Gemm", ["f", "w"], ["y"], transB=1))
    _save(folder / "cnn", nodes, [*weights, weight("w", 10, 768)], ["n", 3, 224, 224])
    layers = [
        helper.make_node("Gemm", ["x", "a"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["y"], transB=1),
    ]
    _save(folder / "mlp", layers, [weight("a", 64, 64), weight("b", 10, 64)], ["n", 64])


def _save(folder: Path, nodes: list[Any], weights: list[Any], shape: list[Any]) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "bench", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def measure(folder: Path, model: str, options: argparse.Namespace) -> Iterator[Line]:
    """Every server and way, in turns; medians."""
    pythons = {"catchment": None, **{peer: vars(options)[peer] for peer in PEERS if vars(options)[peer]}}
    floors: list[float] = []
    found: dict[tuple[str, str, int], list[tuple[float, float, float, float]]] = {}
    for _ in range(options.repeats):
        floors.append(_floor(folder / model / "model.onnx", SHAPES[model]))
        for server, python in pythons.items():
            with running(server, folder / model, python) as (pid, ports):
                for way, (make, load) in WAYS.items():
                    if (server, way) in WITHOUT:
                        continue
                    request = make(values_of(SHAPES[model]))
                    port = ports[way == "gRPC"]
                    load(port, request, 2, options.seconds / 5)
                    for connections in CONNECTIONS[model]:
                        taken = _take(pid, load, port, request, connections, options.seconds)
                        found.setdefault((server, way, connections), []).append(taken)
    floor = statistics.median(floors)
    for (server, way, connections), rows in found.items():
        cpu, p50, p99, rate = (statistics.median(each) for each in zip(*rows, strict=True))
        what = f"{server}, {way}, {connections} connection{'s' * (connections > 1)}"
        yield Line(model, f"{what}: CPU a request", cpu, floor, "ms")
        yield Line(model, f"{what}: p50", p50, None, "ms")
        yield Line(model, f"{what}: p99", p99, None, "ms")
        yield Line(model, f"{what}: rate", rate, None, "requests/s")


def _take(
    pid: int, load: Load, port: int, request: bytes, connections: int, seconds: float
) -> tuple[float, float, float, float]:
    """CPU milliseconds a request, p50, p99 (ms), requests a second."""
    before, began = _cpu_s(pid), time.perf_counter()
    taken = load(port, request, connections, seconds)
    took, spent = time.perf_counter() - began, _cpu_s(pid) - before
    p99 = taken[int(len(taken) * 0.99)]
    return spent / len(taken) * 1e3, taken[len(taken) // 2] * 1e3, p99 * 1e3, len(taken) / took


def _floor(file: Path, shape: tuple[int, ...]) -> float:
    """CPU milliseconds of one inference in a process that does nothing else."""
    script = (
        "import sys, time, numpy, onnxruntime as o\n"
        "s = o.SessionOptions(); s.intra_op_num_threads = 1\n"
        "s = o.InferenceSession(sys.argv[1], s); shape = map(int, sys.argv[2:])\n"
        "x = {'x': numpy.random.rand(*shape).astype('f4')}\n"
        "for _ in range(20): s.run(None, x)\n"
        "n, b, e = 0, time.process_time(), time.monotonic() + 1\n"
        "while time.monotonic() < e: s.run(None, x); n += 1\n"
        "print((time.process_time() - b) / n * 1e3)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(file), *map(str, shape)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return float(ran.stdout)


@contextmanager
def running(server: str, folder: Path, python: str | None) -> Iterator[tuple[int, tuple[int, int]]]:
    """A server of the model, of a peer with its interpreter: its process id, and its ports."""
    from processes import free_port

    ports = free_port(), free_port()
    if server in PEERS:
        peer = ROOT / "benchmarks" / f"{server}_peer.py"
        command = [str(python), str(peer), str(folder / "model.onnx")]
        command += [str(each) for each in ports]
    else:
        command = [sys.executable, "-m", "api.model_server", "--model", str(folder), "--name", "m"]
        command += ["--http-port", str(ports[0]), "--grpc-port", str(ports[1])]
    with (folder / f"{server}.log").open("wb") as log:
        own = {"PYTHONPATH": "" if server in PEERS else f"{ROOT}:{ROOT / 'src'}"}
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stdout=log, stderr=log)
    try:
        _wait_ready(process, ports[0], folder / f"{server}.log")
        yield process.pid, ports
    finally:
        process.terminate()
        process.wait(60)


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import http.client

    end = time.monotonic() + STARTS_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v2/models/m/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise TimeoutError(f"no answer within {STARTS_S:g} s; see {log}")


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    ticks = 0
    for each in (pid, *children):
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

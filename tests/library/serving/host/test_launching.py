"""Command line, bounds and surroundings of a model server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catchment.model_server.config import available_cpus, read_config
from catchment.serving.host import launching
from catchment.serving.host.launching import Ports
from catchment.serving.workload import ServedModel, ServingKey, Workload


def workload(server: dict[str, object] | None = None, **limits: str) -> Workload:
    model = ServedModel("id", "lab/net:v1", f"sha256:{'a' * 64}", "ONNX", (), (), 1)
    key = ServingKey("lab", "digits", "u1")
    return Workload(key, 3, "default", "graph", model, resources={"limits": limits}, server=server or {})


def test_a_command_names_all_that_decides_what_is_served() -> None:
    argv = launching.command(workload({"queue": 4}), Path("/models/aa"), Ports(81, 82))
    options = dict(zip(argv[3::2], argv[4::2], strict=True))
    assert argv[1:3] == ["-m", "api.model_server"]
    assert options.pop("--config") == json.dumps({"queue": 4})
    assert options == {
        "--model": "/models/aa",
        "--name": "digits",
        "--version": "3",
        "--host": "127.0.0.1",
        "--http-port": "81",
        "--grpc-port": "82",
    }


@pytest.mark.parametrize(
    ("server", "cpu", "concurrency"),
    [
        ({}, "100m", 1),
        ({}, "1", 1),
        ({}, "1000", available_cpus()),
        ({"threads": 4}, "4", 1),
        ({"concurrency": 7}, "1", 7),
        ({}, None, None),
    ],
)
def test_processors_bound_inferences_at_a_time(
    server: dict[str, object], cpu: str | None, concurrency: int | None
) -> None:
    bounds = launching.config(workload(server, **({"cpu": cpu} if cpu else {})))
    assert bounds.get("concurrency") == concurrency
    read_config({**bounds, "name": "digits"})


def test_memory_is_bytes() -> None:
    assert launching.memory_limit(workload(memory="64Mi")) == 64 << 20
    assert launching.memory_limit(workload()) is None


def test_ports_differ() -> None:
    ports = launching.free_ports()
    assert ports.http != ports.grpc


def test_the_environment_holds_paths_and_nothing_else(tmp_path: Path) -> None:
    own = {"PATH": "/bin", "PYTHONPATH": "/mine", "CATCHMENT_DATABASE_URL": "secret", "AWS_SECRET": "secret"}
    found = launching.environment(workload(), tmp_path, own)
    assert found == {"PATH": "/bin", "PYTHONPATH": f"{tmp_path}:/mine", "PYTHONUNBUFFERED": "1"}

"""How long a rollout takes on one machine: to the first traffic, to a next version, and back.

    python benchmarks/rollouts.py [--repeats 3] [--json]

The system as `catchment up` starts it (PostgreSQL, Prefect, API, runner, serving host), a small MLP
(64-64-10) whose signature is stored. Times are from the request to the moment that a client sees: the
first answer, the new version alone, the old one again. The floor is the start of a model server until it
is ready, by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

from model_server import make_models, running  # noqa: E402
from system import system  # noqa: E402
from table import Line, show  # noqa: E402

from catchment.client import Client  # noqa: E402
from catchment.errors import CatchmentError  # noqa: E402

ASKED = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]}
).encode()
LIMIT_S = 120.0
LOOKS_S = 0.02


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as name:
        folder = Path(name)
        make_models(folder)
        with system(folder / "home", 1, sqlite=False) as url, Client(url) as client:
            push(client, folder)
            show(measure(client, folder, options.repeats), as_json=options.json)


def push(client: Client, folder: Path) -> None:
    """Two versions of the MLP, each with its signature."""
    model = onnx.load(folder / "mlp" / "model.onnx")
    for version in ("v1", "v2"):
        model.doc_string = version
        file = folder / version / "model" / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(model.SerializeToString())
        client.models.push(folder / version, "mlp", version, format="ONNX")
        signed = f"extract-{version}"
        body = {
            "apiVersion": "kleveross.io/v1alpha1",
            "kind": "ModelJob",
            "metadata": {"name": signed},
            "spec": {"model": f"default/mlp:{version}", "extraction": {"format": "ONNX"}},
        }
        client.model_jobs.create(body)
        client.model_jobs.wait(signed, timeout_s=LIMIT_S)


def measure(client: Client, folder: Path, repeats: int) -> Iterator[Line]:
    """A serving is made, changed, rolled back and deleted, several times."""
    floors: list[float] = []
    found: dict[str, list[float]] = {}
    for number in range(repeats):
        began = time.perf_counter()
        with running("catchment", folder / "mlp", None):
            floors.append(time.perf_counter() - began)
        for what, took in _life(client, f"s{number}"):
            found.setdefault(what, []).append(took)
    for what, times in found.items():
        yield Line("rollout", what, statistics.median(times), statistics.median(floors), "s")


def _life(client: Client, name: str) -> Iterator[tuple[str, float]]:
    body = {"name": name, "model": "default/mlp:v1", "canary": {"steps": [50, 100], "step_s": 1}}
    for what, act, seen in (
        (
            "to the first traffic",
            lambda: client.servings.create(body),
            lambda: client.servings.infer(name, ASKED),
        ),
        (
            "next version alone, after a step of 1 s",
            lambda: client.servings.update(name, {**body, "model": "default/mlp:v2"}),
            _only(client, name, "v2"),
        ),
        ("back to the version before", lambda: client.servings.rollback(name), _only(client, name, "v1")),
    ):
        yield what, _timed(act, seen)
        client.servings.wait(name, timeout_s=LIMIT_S)
    client.servings.delete(name)


def _only(client: Client, name: str, version: str) -> Callable[[], Any]:
    """Whether that version takes all the traffic."""

    def seen() -> bool:
        now = client.servings.get(name)
        return len(now.traffic) == 1 and [each.rpartition(":")[2] for each in now.models] == [version]

    return seen


def _timed(act: Callable[[], Any], seen: Callable[[], Any]) -> float:
    """Seconds from the request until `seen` says so."""
    began = time.perf_counter()
    act()
    while time.perf_counter() - began < LIMIT_S:
        try:
            if seen() is not False:
                return time.perf_counter() - began
        except CatchmentError:
            pass  # not there yet
        time.sleep(LOOKS_S)
    raise TimeoutError(f"not seen within {LIMIT_S:g} s")


if __name__ == "__main__":
    main()

"""Models as folders to and from a registry, in each form, beside one blob of as many bytes.

    python benchmarks/folders.py [--megabytes 300] [--repeats 3] [--json]

The registry is Debian's docker-registry, a process of its own on loopback. The model is three files of random
float32 weights. A push begins with the files and ends with the tag: digests, layer, upload; the registry has
nothing of it before. A pull ends with a synced folder. Each runs in a process of its own, medians are shown.
The floor is a push of one blob of as many bytes whose digest is known, by a bare http.client, and a pull
of it into a synced file. CPU seconds are those of the client, memory is by how much it grew at most.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "src")]

WAYS = ("ormb", "ormb deflated", "modelpack")
Task = dict[str, str]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_timed(json.loads(options.child))))
        return
    from table import show

    if shutil.which("docker-registry") is None:
        print("docker-registry is not installed: nothing is measured", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        taken = measure(Path(folder), options.megabytes * 10**6, options.repeats)
    show(list(_lines(taken)), as_json=options.json)


def measure(folder: Path, size: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """All transfers, in turn; what each took."""
    from artifacts import make_model
    from registry import made_unlike

    from tests.registry_servers import docker_registry

    make_model(folder, size)
    blob = folder / "blob"
    with blob.open("wb") as whole:
        for part in sorted((folder / "model").iterdir()):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 2**20)
    taken: dict[str, list[dict[str, float]]] = {}
    with docker_registry(folder / "registry") as server:
        for _ in range(repeats):
            task = {
                "host": server.host,
                "source": str(blob),
                "digest": made_unlike(blob),
                "folder": str(folder),
            }
            for name in ("floor", *WAYS):
                for way in ("push", "pull"):
                    with tempfile.TemporaryDirectory(dir=folder) as target:
                        found = _run({**task, "who": name, "way": way, "target": target})
                    taken.setdefault(f"{name} {way}", []).append(found)
                # The next form's layers are other bytes, but ModelPack's are these files in every repeat.
                subprocess.run(["rm", "-rf", str(folder / "registry" / "data")], check=True)
    return taken


def _lines(taken: dict[str, list[dict[str, float]]]) -> Iterator[object]:
    from table import Line

    units = {"s": "s", "cpu": "CPU s", "memory": "MiB"}
    for way in ("push", "pull"):
        for name in ("floor", *WAYS):
            for key, unit in units.items():
                mine, floor = (
                    statistics.median(run[key] for run in taken[f"{one} {way}"]) for one in (name, "floor")
                )
                beside = None if name == "floor" else floor
                yield Line("folders", f"{way}, {name}: {key}", mine, beside, unit)


def _run(task: Task) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _timed(task: Task) -> dict[str, float]:
    """Do it; seconds, CPU seconds and MiB by which the process has grown at most."""
    from registry import floor_of, memory_mib

    transfer = (
        floor_of({**task, "way": "keep" if task["way"] == "pull" else "push"})
        if task["who"] == "floor"
        else _folder(task)
    )
    before = memory_mib("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    transfer()
    took = {"s": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    return {**took, "memory": memory_mib("VmHWM") - before}


def _folder(task: Task) -> Callable[[], None]:
    from catchment.registry.copying import Place
    from catchment.registry.distribution import DistributionRegistry
    from catchment.registry.pulling import pull_folder
    from catchment.registry.pushing import push_folder
    from catchment.registry.session import Session

    form, _, deflated = task["who"].partition(" ")
    place = Place(DistributionRegistry(Session(task["host"])), f"bench/{form}{deflated}")

    def push() -> None:
        folder = Path(task["folder"])
        push_folder(folder, place, "v1", form=form, deflate=bool(deflated))  # type: ignore[arg-type]

    def pull() -> None:
        pull_folder(place, "v1", Path(task["target"]) / "model")

    return push if task["way"] == "push" else pull


if __name__ == "__main__":
    main()

"""Aggregating client updates, beside a plain copy of the same bytes.

    python benchmarks/aggregate.py [--updates 10] [--megabytes 100] [--repeats 5] [--json]

Runs the coordinator's own step on blobs in a folder: open the updates, FedAvg, write and sync the new
weights, take their digest and put them among the blobs. The floor copies the updates' bytes once, in
memory. The split shows what parts of it cost by themselves, in CPU seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from table import Line, show  # noqa: E402

from catchment.models.tensors import TensorFile, check_update, file_digest, write_tensors  # noqa: E402
from catchment.models.updates import blocks  # noqa: E402
from catchment.rounds.aggregation import aggregate  # noqa: E402
from catchment.store.blobs import FolderBlobs, keep_staged, new_staged_file  # noqa: E402
from catchment.strategies.base import Context  # noqa: E402
from catchment.strategies.fedavg import FedAvg  # noqa: E402
from catchment.strategies.sums import BLOCK_ELEMENTS, ClientUpdate, Sums  # noqa: E402

LAYERS = 8


class Round:
    """Weights and updates of one round, as blobs in a folder."""

    def __init__(self, folder: Path, updates: int) -> None:
        self.blobs = FolderBlobs(folder)
        self.store: Any = SimpleNamespace(blobs=self.blobs)
        digests = (folder / "digests").read_text().split()[: updates + 1]
        self.weights, self.updates = digests[0], digests[1:]
        self.paths = [self.blobs.local_path(digest) for digest in self.updates]
        self.works: Any = [
            SimpleNamespace(site=f"site-{n:04d}", num_samples=10 + n, update=digest)
            for n, digest in enumerate(self.updates)
        ]

    @classmethod
    def make(cls, folder: Path, updates: int, size: int) -> Round:
        """Random tensors in `folder`, `size` bytes for each of the updates."""
        generator, blobs, digests = np.random.default_rng(0), FolderBlobs(folder), []
        for scale in [0.05] + [1e-3] * updates:
            tensors = {
                f"layer{n}": generator.normal(0, scale, size // 4 // LAYERS).astype(np.float32)
                for n in range(LAYERS)
            }
            staged = new_staged_file(blobs)
            write_tensors(staged, tensors)
            digests.append(keep_staged(blobs, staged))
        (folder / "digests").write_text("\n".join(digests))
        return cls(folder, updates)

    def aggregate(self) -> str:
        """The coordinator's step; the digest of the new weights, which are not kept."""
        job: Any = SimpleNamespace(compression=None)
        made = aggregate(self.store, job, Context(), self.weights, None, self.works, FedAvg())
        self.blobs.delete(made.weights)
        return made.weights

    def check(self) -> None:
        """What admission looks at."""
        with TensorFile.open(self.blobs.local_path(self.weights)) as weights:
            signature = weights.signature
        for path in self.paths:
            with TensorFile.open(path) as update:
                check_update(update, signature)

    def copy(self) -> None:
        """The floor."""
        for update in self._opened():
            for name in update.signature:
                update.array(name).copy()

    def read(self) -> None:
        """Read the mapped updates block by block."""
        for block in self._float_blocks():
            np.bitwise_or.reduce(block.view(np.uint32))

    def widen(self) -> None:
        """Read them and widen to float64."""
        scratch = np.empty(BLOCK_ELEMENTS, np.float64)
        for block in self._float_blocks():
            np.copyto(scratch[: block.size], block)

    def add(self) -> None:
        """Read, widen and add them."""
        with ExitStack() as files:
            tensors = [files.enter_context(TensorFile.open(path)) for path in self.paths]
            sums = Sums(tensors[0].signature)
            given = zip(self.works, tensors, strict=True)
            updates = [ClientUpdate(work.site, work.num_samples, update) for work, update in given]
            sums.add(updates, [float(update.num_samples) for update in updates])
            for name in tensors[0].signature:
                for start, stop in blocks(tensors[0].signature[name].num_elements, BLOCK_ELEMENTS):
                    sums.block(name, start, stop)

    def write(self) -> Path:
        """Write and sync a file as large as the new weights."""
        with TensorFile.open(self.blobs.local_path(self.weights)) as weights:
            target = self.blobs.staging_folder / "written"
            write_tensors(target, {name: weights.array(name) for name in weights.signature})
        return target

    def digest(self) -> str:
        """The digest of a file as large as the new weights."""
        return file_digest(self.blobs.local_path(self.weights))

    def _opened(self) -> Iterator[TensorFile]:
        for path in self.paths:
            with TensorFile.open(path) as update:
                yield update

    def _float_blocks(self) -> Iterator[Any]:
        for update in self._opened():
            for name in update.signature:
                values = update.array(name)
                for start, stop in blocks(values.size, BLOCK_ELEMENTS):
                    yield values[start:stop]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="medians are taken of so many")
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.updates)
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        lines = measure(Path(folder), options.updates, options.megabytes * 10**6, options.repeats)
    show(lines, as_json=options.json)


def measure(folder: Path, updates: int, size: int, repeats: int) -> list[Line]:
    """Aggregate a few times and copy the bytes, in turn."""
    made = Round.make(folder, updates, size)
    steps: dict[str, Callable[[], object]] = {
        "all": made.aggregate,
        "copy": made.copy,
        "check": made.check,
        "read": made.read,
        "widen": made.widen,
        "add": made.add,
        "write": made.write,
        "digest": made.digest,
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begun = time.process_time()
            step()
            taken[name].append(time.process_time() - begun)
    cpu_s = {name: statistics.median(values) for name, values in taken.items()}
    total = size * updates / 1e9
    copied, undigested = total / cpu_s["copy"], cpu_s["all"] - cpu_s["digest"]
    split = {
        "read the updates, mapped": cpu_s["read"],
        "widen to float64": cpu_s["widen"] - cpu_s["read"],
        "weigh and add": cpu_s["add"] - cpu_s["widen"],
        "new weights from sums": undigested - cpu_s["add"] - cpu_s["write"],
        "write and sync": cpu_s["write"],
        "digest of the new weights": cpu_s["digest"],
    }
    return [
        _line("updates aggregated and written", total / undigested, copied, "GB/CPU s"),
        _line("the same with the digest of the new weights", total / cpu_s["all"], copied, "GB/CPU s"),
        _line("updates checked at admission", total / cpu_s["check"], copied, "GB/CPU s"),
        *(_line(f"split: {name}", value, None, "CPU s") for name, value in split.items()),
        _line("peak memory over idle", _peak_bytes(folder, updates) / size, None, "models"),
        _line("new weights are the same each time", len({made.aggregate() for _ in range(3)}), 1, "digests"),
    ]


def _line(metric: str, value: float, floor: float | None, unit: str) -> Line:
    return Line("aggregate", metric, value, floor, unit)


def _peak_bytes(folder: Path, updates: int) -> float:
    """Peak memory of a process of its own that aggregates, over what it needs for its imports."""
    command = [sys.executable, __file__, "--peak", str(folder), "--updates", str(updates)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def print_peak(folder: Path, updates: int) -> None:
    """What that process does."""
    made = Round(folder, updates)
    hashlib.sha256(bytes(1 << 20)).hexdigest()  # loads the library that does it
    idle = _high_water_bytes()
    made.aggregate()
    print(_high_water_bytes() - idle)


def _high_water_bytes() -> int:
    # getrusage's figure survives exec, so it would be our parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()

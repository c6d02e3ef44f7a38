"""Making the layer of an ORMB artifact, beside gzip as Python has it.

    python benchmarks/artifacts.py [--megabytes 300] [--repeats 3] [--json]

Saves a model of random float32 weights: deflated by threads into a file, and as a stored layer, of which
only the digest is computed and nothing is written. Each measure runs in a process of its own; CPU seconds
are those of all its threads, memory is the peak of its own pages above an idle one's. The floor of the times
is Python's gzip at level 6, what the obvious programme would take. Then both layers are read, and ranges of
the stored one.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from table import Line, show  # noqa: E402

from catchment.models.files import files_of  # noqa: E402
from catchment.registry.layer import write_layer  # noqa: E402
from catchment.registry.layer_reading import read_layer  # noqa: E402
from catchment.registry.stored_layer import StoredLayer  # noqa: E402

FLOOR = "Python's gzip, level 6"
RANGES, RANGE_BYTES = 1000, 2**20


def plain_gzip(folder: Path) -> int:
    """What a few lines with the standard library do: tar through gzip into a file, then its digest."""
    layer = folder / "layer"
    with gzip.open(layer, "wb", compresslevel=6) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        tar.add(folder / "model", "model")
    with layer.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return layer.stat().st_size


def deflated(folder: Path) -> int:
    """The deflated layer in a file."""
    with (folder / "layer").open("wb") as target:
        return write_layer(files_of(folder / "model"), target).size


def stored(folder: Path) -> int:
    """The stored layer's digest; there is nothing to write."""
    layer = StoredLayer(files_of(folder / "model"))
    layer.digest()
    return layer.size


def read_deflated(folder: Path) -> int:
    """Read the deflated layer to its end, with the digest of each file."""
    return sum(_digested(folder / "layer"))


def read_stored(folder: Path) -> int:
    """The same with a stored layer, made while it is read."""
    layer = StoredLayer(files_of(folder / "model"))
    return sum(_digests(layer.read()))


def ranges(folder: Path) -> int:
    """Ranges of a MiB anywhere in a stored layer."""
    layer = StoredLayer(files_of(folder / "model"), crc32=0)
    generator = np.random.default_rng(1)
    starts = generator.integers(0, layer.size - RANGE_BYTES, RANGES)
    return sum(len(piece) for start in starts for piece in layer.read(int(start), int(start) + RANGE_BYTES))


WORK: dict[str, Callable[[Path], int]] = {
    FLOOR: plain_gzip,
    "deflated by threads": deflated,
    "stored, digest only": stored,
    "read back deflated": read_deflated,
    "read back stored": read_stored,
    f"{RANGES} ranges of 1 MiB, stored": ranges,
}


def _digested(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        yield from _digests(iter(lambda: file.read(2**20), b""))


def _digests(pieces: Iterator[bytes]) -> Iterator[int]:
    for member in read_layer(pieces):
        sha = hashlib.sha256()
        for piece in member.read():
            sha.update(piece)
        yield member.size


def peak_bytes() -> int:
    """The most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(name: str, folder: Path) -> dict[str, float]:
    """One measure, in this process."""
    before, cpu, wall = peak_bytes(), time.process_time(), time.perf_counter()
    size = WORK[name](folder)
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "memory": (peak_bytes() - before) / 2**20,
        "size": size / 2**20,
    }


def in_a_process(name: str, folder: Path) -> dict[str, float]:
    """One measure, in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def make_model(folder: Path, size: int) -> None:
    """Three files of random weights."""
    generator = np.random.default_rng(0)
    (folder / "model").mkdir()
    for number in range(3):
        weights = generator.standard_normal(size // 12, dtype=np.float32)
        weights.tofile(folder / "model" / f"weights-{number}.bin")


def lines(size: int, repeats: int) -> Iterator[Line]:
    """All measures: the median of the repeats, and the floor beside each."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_model(folder, size)
        floor: dict[str, float] = {}
        for name in WORK:
            found = [in_a_process(name, folder) for _ in range(repeats)]
            middle = {key: statistics.median(each[key] for each in found) for key in found[0]}
            saving = name in list(WORK)[:3]
            floor = floor or middle
            for key, unit in (("cpu", "CPU s"), ("wall", "s"), ("memory", "MiB"), ("size", "MiB")):
                if saving or key in ("cpu", "wall", "memory"):
                    beside = floor[key] if saving and name != FLOOR and key != "memory" else None
                    what = {"cpu": "CPU", "wall": "wall", "memory": "memory", "size": "layer"}[key]
                    yield Line("artifacts", f"{name}: {what}", middle[key], beside, unit)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder)))
    else:
        show(lines(options.megabytes * 10**6, options.repeats), as_json=options.json)


if __name__ == "__main__":
    main()

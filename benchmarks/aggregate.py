"""Aggregating client updates, beside a plain copy of the same bytes.

    python benchmarks/aggregate.py [--updates 10] [--megabytes 100] [--json]

Reads updates as the coordinator does (memory-mapped tensor files), adds them with FedAvg and writes the new
weights. The floor copies the updates' bytes once, in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from catchment.models.tensors import TensorFile, TensorWriter, check_update, write_tensors
from catchment.strategies.base import Context
from catchment.strategies.fedavg import FedAvg
from catchment.strategies.sums import BATCH, ClientUpdate

REPEATS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="one object a line instead of a table")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.updates)
        return
    with tempfile.TemporaryDirectory(prefix="catchment-bench-") as folder:
        lines = measure(Path(folder), options.updates, options.megabytes * 10**6)
    for line in lines:
        if options.json:
            print(json.dumps(line))
        else:
            floor = "" if line["floor"] is None else f"   floor {line['floor']:8.2f}"
            print(f"{line['workload']:10} {line['metric']:44} {line['value']:8.2f} {line['unit']:9}{floor}")


def measure(folder: Path, updates: int, size: int) -> list[dict[str, object]]:
    """Write files, aggregate them a few times, and copy their bytes."""
    generator = np.random.default_rng(0)
    layer = size // 4 // 8
    weights = {f"layer{n}": generator.normal(0, 0.05, layer).astype(np.float32) for n in range(8)}
    write_tensors(folder / "weights", weights)
    paths = []
    for number in range(updates):
        delta = {name: generator.normal(0, 1e-3, layer).astype(np.float32) for name in weights}
        paths.append(folder / f"update{number}")
        write_tensors(paths[-1], delta)
    del weights, delta
    total = size * updates / 1e9
    checked = _cpu_seconds(lambda: _check(folder / "weights", paths))
    added = _cpu_seconds(lambda: _aggregate(folder, paths))
    copied = _cpu_seconds(lambda: _copy(paths))
    return [
        _line("GB of updates added per CPU second", total / added, total / copied, "GB/s"),
        _line("GB of updates checked per CPU second", total / checked, total / copied, "GB/s"),
        _line("peak memory over idle, in models", _peak_bytes(folder, updates) / size, None, "models"),
    ]


def _line(metric: str, value: float, floor: float | None, unit: str) -> dict[str, object]:
    return {"workload": "aggregate", "metric": metric, "value": value, "floor": floor, "unit": unit}


def _cpu_seconds(step: object) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.process_time()
        step()  # type: ignore[operator]
        best = min(best, time.process_time() - begun)
    return best


def _check(weights: Path, paths: list[Path]) -> None:
    with TensorFile.open(weights) as known:
        signature = known.signature
    for path in paths:
        with TensorFile.open(path) as update:
            check_update(update, signature)


def _aggregate(folder: Path, paths: list[Path]) -> None:
    strategy = FedAvg()
    with TensorFile.open(folder / "weights") as weights:
        sums = strategy.begin(weights, Context())
        for start in range(0, len(paths), BATCH):
            with contextlib.ExitStack() as files:
                numbers = range(start, min(start + BATCH, len(paths)))
                opened = [files.enter_context(TensorFile.open(paths[number])) for number in numbers]
                updates = [
                    ClientUpdate(f"site-{number}", 10 + number, tensors)
                    for number, tensors in zip(numbers, opened, strict=True)
                ]
                strategy.accumulate(sums, updates)
        with TensorWriter.create(folder / "new", weights.signature) as writer:
            strategy.finish(sums, weights, Context(), writer)


def _copy(paths: list[Path]) -> None:
    for path in paths:
        with TensorFile.open(path) as update:
            for name in update.signature:
                update.array(name).copy()


def _peak_bytes(folder: Path, updates: int) -> float:
    """Peak memory of a process of its own that aggregates, over what it needs for its imports."""
    command = [sys.executable, __file__, "--peak", str(folder), "--updates", str(updates)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def print_peak(folder: Path, updates: int) -> None:
    """What that process does."""
    idle = _high_water_bytes()
    _aggregate(folder, [folder / f"update{number}" for number in range(updates)])
    print(_high_water_bytes() - idle)


def _high_water_bytes() -> int:
    # getrusage's figure survives exec, so it would be our parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()

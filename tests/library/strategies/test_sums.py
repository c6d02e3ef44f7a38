"""Sums of client updates: the same bits however they come, and little memory."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catchment.models.tensors import TensorFile, write_tensors
from catchment.strategies import sums as module
from catchment.strategies.sums import ClientUpdate, Sums

NUM_ELEMENTS = 37
NUM_UPDATES = 7


def opened(folder: Path, tensors: Sequence[dict[str, Any]]) -> list[ClientUpdate]:
    """Updates in files of their own."""
    updates = []
    for number, arrays in enumerate(tensors):
        path = folder / f"update-{number}"
        write_tensors(path, arrays)
        updates.append(ClientUpdate(f"site-{number}", number + 1, TensorFile.open(path)))
    return updates


def bits(sums: Sums) -> bytes:
    size = module.BLOCK_ELEMENTS
    return b"".join(
        sums.block("w", start, min(start + size, NUM_ELEMENTS)).tobytes()
        for start in range(0, NUM_ELEMENTS, size)
    )


@given(
    cuts=st.sets(st.integers(1, NUM_UPDATES - 1)),
    settled=st.booleans(),
    blocks=st.sampled_from([(4, 8), (8, 16), (1 << 15, 1 << 18)]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_blocks_and_settling_change_no_bit(
    tmp_path: Path, cuts: set[int], settled: bool, blocks: tuple[int, int], dtype: Any, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scales = 10.0 ** random.integers(-9, 9, NUM_UPDATES)
    arrays = [(random.normal(size=NUM_ELEMENTS) * scale).astype(dtype) for scale in scales]
    weights = [float(weight) for weight in random.integers(1, 2**40, NUM_UPDATES)]
    wanted = np.zeros(NUM_ELEMENTS)
    for array, weight in zip(arrays, weights, strict=True):
        wanted += array.astype(np.float64) * weight
    updates = opened(tmp_path, [{"w": array} for array in arrays])
    with pytest.MonkeyPatch.context() as patched, contextlib.ExitStack() as files:
        patched.setattr(module, "BLOCK_ELEMENTS", blocks[0])
        patched.setattr(module, "WINDOW_ELEMENTS", blocks[1])
        sums = Sums(updates[0].tensors.signature)
        edges = [0, *sorted(cuts), NUM_UPDATES]
        for start, stop in itertools.pairwise(edges):
            for update in updates[start:stop]:
                files.enter_context(update.tensors)
            sums.add(updates[start:stop], weights[start:stop])
            if settled:
                sums.settle()
                files.close()
        assert bits(sums) == wanted.tobytes()
        assert bits(sums) == wanted.tobytes(), "looking at sums changes them"
        assert sums.floats["w"].tobytes() == wanted.tobytes()
    assert sums.num_updates == NUM_UPDATES
    assert sums.num_samples == sum(range(1, NUM_UPDATES + 1))


def test_settled_sums_need_no_files_and_open_ones_do(tmp_path: Path) -> None:
    update = opened(tmp_path, [{"w": np.ones(3, np.float32), "c": np.array([4, 1])}])[0]
    sums, unsettled = Sums(update.tensors.signature), Sums(update.tensors.signature)
    sums.add([update], [2.0])
    unsettled.add([update], [2.0])
    sums.settle()
    update.tensors.close()
    np.testing.assert_array_equal(sums.floats["w"], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(sums.others["c"], [4, 1])
    with pytest.raises(ValueError, match="closed"):
        bits(unsettled)


def test_sums_of_nothing_are_zero(tmp_path: Path) -> None:
    update = opened(tmp_path, [{"w": np.ones(3), "none": np.zeros((0, 2))}])[0]
    with update.tensors as tensors:
        sums = Sums(tensors.signature)
    np.testing.assert_array_equal(sums.floats["w"], np.zeros(3))
    np.testing.assert_array_equal(sums.block("w", 0, 3), np.zeros(3))
    assert sums.block("none", 0, 0).size == 0


def test_as_many_weights_as_updates(tmp_path: Path) -> None:
    update = opened(tmp_path, [{"w": np.ones(3)}])[0]
    with update.tensors as tensors, pytest.raises(ValueError, match="shorter"):
        Sums(tensors.signature).add([update], [])


MEASURED = """
import sys
from pathlib import Path
from catchment.models.tensors import TensorFile
from catchment.strategies.sums import ClientUpdate, Sums

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

updates = [ClientUpdate(path, 1, TensorFile.open(Path(path))) for path in sys.argv[1:]]
sums, idle = Sums(updates[0].tensors.signature), peak()
sums.add(updates, [1.0] * len(updates))
for name in updates[0].tensors.signature:
    for start in range(0, 1 << 20, 1 << 15):
        sums.block(name, start, start + (1 << 15))
print(peak() - idle)
"""


def test_what_was_read_of_large_updates_is_given_back(tmp_path: Path) -> None:
    layers = {f"layer{number}": np.full(1 << 20, 1e-3, np.float32) for number in range(8)}
    paths = [tmp_path / f"update-{number}" for number in range(8)]
    for path in paths:
        write_tensors(path, layers)
    model = paths[0].stat().st_size
    command = [sys.executable, "-c", MEASURED, *map(str, paths)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert grown < 2 * model, f"{grown / model:.1f} models are in memory at once, all updates are 8"

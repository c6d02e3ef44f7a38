"""One round of a strategy over tensor files, without a store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from catchment.models.tensors import TensorFile, TensorWriter
from catchment.strategies import partial
from catchment.strategies.base import ClientUpdate, Context, Outcome, Strategy

Arrays = dict[str, np.ndarray]


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A tensor file, without the syncs to disk of one that must last."""
    save_file({name: np.array(array, order="C") for name, array in tensors.items()}, path)


class Files:
    """A cohort of updates in files, as the coordinator's."""

    def __init__(self, folder: Path, updates: Sequence[tuple[int, Arrays]], batch: int = 2) -> None:
        self._paths = [folder / f"update-{number}.safetensors" for number in range(len(updates))]
        self._samples = [num_samples for num_samples, _ in updates]
        self._batch = batch
        for path, (_, tensors) in zip(self._paths, updates, strict=True):
            write(path, tensors)

    def __len__(self) -> int:
        return len(self._paths)

    def batches(self) -> Iterator[Sequence[ClientUpdate]]:
        for start in range(0, len(self._paths), self._batch):
            with contextlib.ExitStack() as files:
                yield self._open(files, range(start, min(start + self._batch, len(self._paths))))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Sequence[ClientUpdate]]:
        with contextlib.ExitStack() as files:
            yield self._open(files, range(len(self._paths)))

    def _open(self, files: contextlib.ExitStack, numbers: range) -> list[ClientUpdate]:
        return [
            ClientUpdate(
                f"site-{number:02d}",
                self._samples[number],
                files.enter_context(TensorFile.open(self._paths[number])),
            )
            for number in numbers
        ]


def aggregate(
    folder: Path,
    strategy: Strategy,
    weights: Arrays | Path,
    updates: Sequence[tuple[int, Arrays]],
    *,
    state: Mapping[str, np.ndarray] | None = None,
    batch: int = 2,
    **context: Any,
) -> tuple[Path, Outcome]:
    """The file of the new weights, and what else the strategy leaves.

    Args:
        folder: for files.
        strategy: the rule.
        weights: that the round begins with.
        updates: numbers of samples and tensors, in the order of the sites.
        state: what the strategy left in the round before.
        batch: updates that are added at a time.
        context: fields of Context.
    """
    start = weights
    if not isinstance(start, Path):
        start = folder / "weights.safetensors"
        write(start, weights)  # type: ignore[arg-type]
    target = folder / "new.safetensors"
    with contextlib.ExitStack() as files:
        current = files.enter_context(TensorFile.open(start))
        if state is not None:
            write(folder / "state.safetensors", state)
            context["state"] = files.enter_context(TensorFile.open(folder / "state.safetensors"))
        cohort = Files(folder, updates, batch)
        with TensorWriter.create(target, current.signature) as writer:
            outcome = partial.aggregate(strategy, cohort, current, Context(**context), writer)
    return target, outcome

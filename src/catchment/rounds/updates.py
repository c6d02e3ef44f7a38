"""The updates of a round, as strategies read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike
from sqlalchemy import Row

from catchment import faults
from catchment.compression import opened
from catchment.jobs.spec import Compression
from catchment.models.interfaces import Tensors
from catchment.models.signature import Array, Signature
from catchment.store import Store
from catchment.strategies.sums import OPEN_UPDATES, ClientUpdate
from catchment.wire.messages import Algorithm

MAX_OPEN = 200
"""Files that are held open at a time: a process has a thousand by default, and other things to open."""


def open_update(
    path: Path, compression: Compression | None, signature: Signature
) -> AbstractContextManager[Tensors]:
    """An update's tensors as its site made them, whatever it was compressed with; decoded as it is read.

    Args:
        path: the file that arrived.
        compression: the job's.
        signature: of the decoded update.

    Raises:
        BadTensors: the file is damaged, holds other tensors, or is not compressed as the job says.
    """
    chosen = Algorithm(name=compression.type, params=compression.params) if compression else None
    return opened(path, chosen, signature)


class Admitted:
    """The admitted updates of an attempt, in the order of their sites' names (a strategies.base.Cohort)."""

    def __init__(
        self, store: Store, works: Sequence[Row[Any]], compression: Compression | None, signature: Signature
    ) -> None:
        self._store = store
        self._works = sorted(works, key=lambda work: work.site)
        self._compression, self._signature = compression, signature

    def __len__(self) -> int:
        return len(self._works)

    def batches(self) -> Iterator[Sequence[ClientUpdate]]:
        """A few at a time."""
        for start in range(0, len(self._works), OPEN_UPDATES):
            with contextlib.ExitStack() as files:
                works = self._works[start : start + OPEN_UPDATES]
                faults.reach("mid_aggregate")
                yield [self._update(work, files.enter_context(self._open(work))) for work in works]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Sequence[ClientUpdate]]:
        """All of them; of a large cohort each file is opened when it is read, and closed again."""
        with contextlib.ExitStack() as files:
            if len(self._works) <= MAX_OPEN:
                yield [self._update(work, files.enter_context(self._open(work))) for work in self._works]
            else:
                yield [self._update(work, _Reopened(self, work, self._signature)) for work in self._works]
        faults.reach("mid_aggregate")

    def _open(self, work: Row[Any]) -> AbstractContextManager[Tensors]:
        return open_update(self._store.blobs.local_path(work.update), self._compression, self._signature)

    def _update(self, work: Row[Any], tensors: Tensors) -> ClientUpdate:
        return ClientUpdate(work.site, work.num_samples, tensors)


class _Reopened:
    """Tensors of a file that is open only while it is read."""

    def __init__(self, cohort: Admitted, work: Row[Any], signature: Signature) -> None:
        self._cohort, self._work, self.signature = cohort, work, signature

    def array(self, name: str) -> Array:
        with self._cohort._open(self._work) as tensors:
            return tensors.array(name).copy()

    def block(self, name: str, start: int, stop: int, dtype: DTypeLike | None = None) -> Array:
        with self._cohort._open(self._work) as tensors:
            return tensors.block(name, start, stop, dtype).copy()

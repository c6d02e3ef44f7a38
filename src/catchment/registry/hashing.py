"""SHA-256 in a thread beside whoever moves the bytes: hashing costs more than receiving them."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from catchment.registry.backend import Chunk


class HashBeside:
    """A digest that is computed one chunk behind. A chunk must not change before `settle` or the next one."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()

    def update(self, chunk: Chunk) -> None:
        """Begin with the next chunk, as soon as the one before it is done."""
        self.settle()
        self._running = self._thread.submit(self._sha256.update, chunk)

    def settle(self) -> None:
        """Wait until the last chunk is done."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def digest(self) -> str:
        """`sha256:<hex>` of all chunks."""
        self.settle()
        return f"sha256:{self._sha256.hexdigest()}"

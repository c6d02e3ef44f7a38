"""Fetching blobs for a work, with patience until the round's deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from catchment.errors import DigestMismatch, Forbidden, NotFound, SiteError, Unauthorized, Unreachable
from catchment.site.backoff import Backoff
from catchment.site.cache import BlobCache
from catchment.site.exchange import Exchange, NotRegisteredError
from catchment.site.work import Work
from catchment.wire.messages import Blob

logger = logging.getLogger(__name__)

Fetch = Callable[[Work, Blob, Path], None]
"""Puts a blob's bytes at a path, read-only."""

_IDLE = 4
"""So many connections are kept for the next fetch."""

_TEMPORARY = (Unreachable, NotRegisteredError, Unauthorized, Forbidden)


class CachedFetch:
    """Fetches through the cache; an outage is waited out as long as the round has time."""

    def __init__(self, cache: BlobCache, open_exchange: Callable[[], Exchange]) -> None:
        self._cache = cache
        self._open_exchange = open_exchange
        self._idle: list[Exchange] = []

    def __call__(self, work: Work, blob: Blob, target: Path) -> None:
        """Put the blob at `target`.

        Raises:
            WorkCancelledError: the work was called off meanwhile.
            SiteError: the blob is gone, damaged, or did not come in time.
        """
        backoff = Backoff(0.2, 5.0)
        damaged = 0
        while True:
            try:
                with self._exchange() as exchange:
                    return self._cache.link(blob, target, _cancellable(work, exchange))
            except _TEMPORARY as error:
                problem: Exception = error
            except NotFound as error:
                raise SiteError(f"the coordinator no longer has {blob.digest}: {error}") from error
            except DigestMismatch as error:
                damaged += 1
                problem = error
            if damaged > 1 or work.remaining_s() <= 0:
                raise SiteError(f"cannot fetch {blob.digest}: {problem}") from problem
            logger.info("download is tried again %s error=%r", work.words, str(problem))
            work.cancelled.wait(min(backoff.next_s(), max(0.0, work.remaining_s())))
            work.check()

    @contextmanager
    def _exchange(self) -> Iterator[Exchange]:
        """A connection of an earlier fetch, or a new one; kept when all went well."""
        # A list's own pop and append are safe between threads.
        try:
            exchange = self._idle.pop()
        except IndexError:
            exchange = self._open_exchange()
        try:
            yield exchange
        except BaseException:
            exchange.close()
            raise
        if len(self._idle) < _IDLE:
            self._idle.append(exchange)
        else:
            exchange.close()


def _cancellable(work: Work, exchange: Exchange) -> Callable[[Blob, int], Iterator[memoryview]]:
    def download(blob: Blob, offset: int) -> Iterator[memoryview]:
        for piece in exchange.read_blob(blob, offset):
            work.check()
            yield piece

    return download

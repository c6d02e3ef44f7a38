"""A large body's way past the HTTP parser: received straight into the blocks that the application gets.

aiohttp copies a body three times between a connection and its reader, in pieces of at most 256 KiB. Once the
head is parsed and the length is known, the rest of the body needs no parser.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

BLOCK_BYTES = 1 << 20
WAITING = 2
"""So many blocks may wait for the application; then the client has to."""
PATIENCE_S = 1.0
"""After so long the application gets what has arrived: it watches that something does."""


class Lane:
    """The rest of one request's body; used by one event loop.

    Args:
        left: how many bytes are still to come, at least one.
        pause: stops the reading of the connection.
        resume: goes on with it.
        leave: called once when the last byte is there.
    """

    def __init__(
        self, left: int, pause: Callable[[], None], resume: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self._left = left
        self._pause, self._resume, self._leave = pause, resume, leave
        self._block = bytearray(min(BLOCK_BYTES, left))
        self._filled = 0
        self._ready: deque[bytes | bytearray] = deque()
        self._arrived = asyncio.Event()
        self._broken = self._useless = False

    @property
    def over(self) -> bool:
        """Whether the application has got all there is."""
        return not self._left and not self._ready

    def room(self) -> memoryview:
        """Where the next bytes of the body belong; never empty while the lane is open."""
        return memoryview(self._block)[self._filled : self._filled + self._left]

    def take(self, count: int) -> None:
        """So many bytes were put there."""
        self._filled += count
        self._left -= count
        if self._useless:
            self._filled = 0
        elif self._filled == len(self._block) or not self._left:
            self._hand_over()
        if not self._left:
            self._leave()
        elif len(self._ready) >= WAITING:
            self._pause()

    async def next(self) -> bytes | bytearray | None:
        """The next part of the body; None when the connection was lost before there was one."""
        while not self._ready:
            if self._broken:
                return None
            self._arrived.clear()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._arrived.wait()
            except TimeoutError:
                self._hand_over()
        part = self._ready.popleft()
        if self._left and len(self._ready) == WAITING - 1:
            self._resume()
        return part

    def break_off(self) -> None:
        """The connection is lost; what has arrived still counts."""
        self._hand_over()
        self._broken = True
        self._arrived.set()

    def discard(self) -> None:
        """Nobody wants the rest; it is read, so that the next request can be."""
        self._useless = True
        self._filled = 0
        self._ready.clear()
        if self._left:
            self._resume()

    def _hand_over(self) -> None:
        if self._filled == len(self._block):
            self._ready.append(self._block)
            self._block = bytearray(min(BLOCK_BYTES, self._left))
        elif self._filled:
            self._ready.append(bytes(memoryview(self._block)[: self._filled]))
        self._filled = 0
        if self._ready:
            self._arrived.set()

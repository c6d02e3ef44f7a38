"""A balancer of TCP connections, as a Service of a cluster is one: each to the next server that answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence


class Balancer:
    """Deals connections out in turn; a server that refuses is left out for that connection.

    Attributes:
        taken: connections by server's port.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.taken: Counter[int] = Counter()
        self._ports = list(ports)
        self._next = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await self._connect()
        if found is None:
            writer.close()
            return
        there_reader, there_writer = found
        both = (_pass_on(reader, there_writer), _pass_on(there_reader, writer))
        await asyncio.gather(*both)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            with contextlib.suppress(OSError):
                found = await asyncio.open_connection("127.0.0.1", port)
                self.taken[port] += 1
                return found
        return None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes of one direction; the end of one side is the end of the other."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


@contextlib.contextmanager
def balanced(ports: Sequence[int]) -> Iterator[tuple[str, Balancer]]:
    """Run a balancer before servers of this machine; its address and itself."""
    balancer = Balancer(ports)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(balancer._serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, name="balancer", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", balancer
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(_end(server))
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    open_ones = asyncio.all_tasks() - {asyncio.current_task()}
    for task in open_ones:
        task.cancel()
    await asyncio.gather(*open_ones, return_exceptions=True)

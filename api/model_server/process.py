"""The life of a model server's process: listen, load, serve, drain, end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.errors import FatalError
from granian.log import LogLevels
from granian.rsgi import ProtocolClosed
from granian.server.embed import Server

from catchment.errors import ModelUnusable, SetupError
from catchment.model_server.engine import Engine
from catchment.model_server.grpc_service import start_grpc
from catchment.model_server.rest import Rest

log = logging.getLogger(__name__)
LINGERS_S = 0.2
"""So long whoever asks on an open connection still gets an answer: not here any more."""
ENDS_WITHIN_S = 2.0
"""After the draining everything else must end within this."""
STOPPED, LISTEN_FAILED, UNUSABLE, CUT_OFF = 0, 2, 3, 4


@dataclass(frozen=True)
class Ports:
    """Where a model server listens; 0 takes a free port."""

    host: str
    http: int
    grpc: int


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Granian would panic over one that is taken, or share it.

    Raises:
        SetupError: it is taken, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise SetupError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


async def serve(engine: Engine, folder: Path, ports: Ports) -> int:
    """Serve a model until SIGTERM or SIGINT; the process's exit code.

    Health is answered from the start, inferences once the model is loaded.

    Raises:
        SetupError: a port is taken.
    """
    http_port = free_port(ports.host, ports.http)
    calls, grpc_port = start_grpc(engine, ports.host, ports.grpc)
    server = _http_server(Rest(engine, ProtocolClosed), ports.host, http_port)
    process = _Process(engine, server, calls)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop, STOPPED)
    loading = asyncio.ensure_future(asyncio.to_thread(engine.load, folder))
    loading.add_done_callback(lambda done: process.loaded(done, {"http": http_port, "grpc": grpc_port}))
    try:
        await server.serve()
    except FatalError:
        return LISTEN_FAILED
    exit_code = LISTEN_FAILED if process.exit_code is None else process.exit_code
    if not loading.done():  # nothing can interrupt it, and nobody waits for it any more
        logging.shutdown()
        os._exit(exit_code)
    return exit_code


class _Process:
    """What ends the servers, whoever asks; used by the event loop."""

    def __init__(self, engine: Engine, server: Server, calls: Any) -> None:
        self._engine, self._server, self._calls = engine, server, calls
        self.exit_code: int | None = None
        self._draining: asyncio.Task[None] | None = None

    def loaded(self, loading: asyncio.Future[None], ports: dict[str, int]) -> None:
        error = loading.exception()
        if error is None:
            if self._engine.ready:
                log.info("ready", extra={"facts": ports})
            return
        if not isinstance(error, ModelUnusable):
            log.error("loading failed", exc_info=error)
        else:
            log.error("%s", error)
        self.stop(UNUSABLE)

    def stop(self, exit_code: int) -> None:
        if self.exit_code is not None:
            return
        self.exit_code = exit_code
        log.info("stopping", extra={"facts": {"in_flight": self._engine.gate.admitted}})
        self._engine.stop()
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """Answer what is in flight; whatever hangs, the process ends within its limit."""
        drain_s = self._engine.config.drain_s
        watchdog = threading.Timer(drain_s + LINGERS_S + ENDS_WITHIN_S, _cut_off)
        watchdog.daemon = True
        watchdog.start()
        lingered = asyncio.sleep(LINGERS_S)
        idle, *_ = await asyncio.gather(asyncio.to_thread(self._engine.gate.wait_idle, drain_s), lingered)
        if not idle:
            _cut_off()
        # Not earlier: grpcio cancels calls that arrive after it, where the gate says UNAVAILABLE.
        await asyncio.to_thread(self._calls.stop(ENDS_WITHIN_S / 2).wait, ENDS_WITHIN_S)
        self._server.stop()  # type: ignore[no-untyped-call]


def _http_server(rest: Rest, host: str, port: int) -> Server:
    return Server(
        rest,
        address="127.0.0.1" if host == "localhost" else host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        log_level=LogLevels.error,
        log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}, "granian.access": {}}},
    )


def _cut_off() -> None:
    log.warning("requests still ran when the time to drain was over; cut off")
    logging.shutdown()
    os._exit(CUT_OFF)

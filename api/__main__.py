"""`python -m api`: serve the API with granian, one process, HTTP/1.1."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading

import click
from fastapi import FastAPI
from granian.constants import HTTPModes, Interfaces
from granian.errors import FatalError
from granian.log import LogLevels
from granian.server.embed import Server
from pydantic import ValidationError

from api import launch
from api.access import is_loopback
from api.app import create_app
from catchment.access import has_admin
from catchment.errors import CatchmentError, SetupError
from catchment.settings import Settings
from catchment.store import open_store

log = logging.getLogger("api")
STOPS_WITHIN_S = 4.5
"""Requests that still run so long after SIGTERM are cut off; transfers go on later where they were."""
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def check_setup(settings: Settings, host: str, port: int) -> None:
    """Refuse to serve what would be unsafe or could not work.

    Raises:
        SetupError: says what to change.
    """
    if settings.auth != "tokens" and not is_loopback(host):
        raise SetupError(
            f"host {host} can be reached from other machines, so a login is needed: "
            "set CATCHMENT_AUTH=tokens, or bind to 127.0.0.1"
        )
    _check_port(host, port)
    launch.check_configured()
    store = open_store(settings)
    try:
        if settings.auth == "tokens" and not has_admin(store):
            raise SetupError("CATCHMENT_AUTH is 'tokens' but there is no admin token yet; create one first")
    finally:
        store.close()


def _check_port(host: str, port: int) -> None:
    """Granian would panic, or share the port with another of its kind."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SetupError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def announce(settings: Settings, host: str, port: int) -> None:
    """Say at the start who may call."""
    who = "programs of this machine, without a login" if settings.auth == "loopback" else "bearer tokens"
    log.info("serving http://%s:%d for %s", f"[{host}]" if ":" in host else host, port, who)


async def serve(settings: Settings, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    app = create_app(settings)
    server = _server(app, host, port)
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            return
        stopping.set()
        log.info("stopping")
        watchdog = threading.Timer(STOPS_WITHIN_S, _cut_off)
        watchdog.daemon = True
        watchdog.start()
        if hasattr(app.state, "context"):
            app.state.context.closing.set()  # long polls are answered now
        server.stop()  # type: ignore[no-untyped-call]

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await server.serve()
    except FatalError:  # granian has logged what went wrong at the start
        return 1
    return 0 if stopping.is_set() else 1


def _server(app: FastAPI, host: str, port: int) -> Server:
    """Granian inside this process, so that signals are ours and there is no second process to look after."""
    return Server(
        app,
        address="127.0.0.1" if host == "localhost" else host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        log_level=LogLevels.error,
        log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}, "granian.access": {}}},
    )


def _cut_off() -> None:
    log.warning("requests still ran %g s after the signal; cut off", STOPS_WITHIN_S)
    logging.shutdown()
    os._exit(0)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
def main(host: str, port: int) -> None:
    """Serve Catchment's API. All settings are environment variables CATCHMENT_*."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=FORMAT)
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = Settings()
        check_setup(settings, host, port)
        announce(settings, host, port)
        sys.exit(asyncio.run(serve(settings, host, port)))
    except ValidationError as error:
        _refuse(
            "; ".join(f"CATCHMENT_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        )
    except CatchmentError as error:
        _refuse(str(error))


def _refuse(sentence: str) -> None:
    log.error("%s", sentence)
    sys.exit(2)


if __name__ == "__main__":
    main()

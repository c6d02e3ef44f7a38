"""`python -m api`: serve the API, one process, HTTP/1.1, plain or behind TLS."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
import threading
from pathlib import Path

import click
from pydantic import ValidationError

from api import launch
from api.app import create_app
from api.heap import keep_freed_memory
from api.listening import Listening
from api.server import Server
from catchment.access import has_admin
from catchment.errors import CatchmentError, SetupError
from catchment.observe import export, logs
from catchment.settings import Settings
from catchment.store import open_store

log = logging.getLogger("api")
STOPS_WITHIN_S = 4.5
"""Requests that still run so long after SIGTERM are cut off; transfers go on later where they were."""
FILE = click.Path(path_type=Path, dir_okay=False)


def check_setup(settings: Settings, listening: Listening) -> None:
    """Refuse to serve what would be unsafe or could not work.

    Raises:
        SetupError: says what to change.
    """
    listening.check(settings)
    launch.check_configured()
    store = open_store(settings)
    try:
        if settings.auth == "tokens" and not has_admin(store):
            raise SetupError("CATCHMENT_AUTH is 'tokens' but there is no admin token yet; create one first")
    finally:
        store.close()


def announce(settings: Settings, listening: Listening) -> None:
    """Say at the start who may call."""
    who = "programs of this machine, without a login" if settings.auth == "loopback" else "bearer tokens"
    mutual = "; client certificates are verified" if listening.tls_client_ca else ""
    log.info("serving %s for %s%s", listening.url, who, mutual)


async def serve(settings: Settings, listening: Listening, context: ssl.SSLContext | None) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code.

    Args:
        settings: the process's.
        listening: where.
        context: for TLS; None for plain HTTP.
    """
    keep_freed_memory()
    app = create_app(settings)
    stopping = asyncio.Event()
    server = Server(app, context)

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

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with app.router.lifespan_context(app):
        try:
            await server.start(listening.address, listening.port)
        except OSError as error:
            raise SetupError(f"{listening.url} cannot be served: {error.strerror or error}") from error
        await stopping.wait()
        await server.stop(STOPS_WITHIN_S)
    return 0


def _cut_off() -> None:
    log.warning("requests still ran %g s after the signal; cut off", STOPS_WITHIN_S)
    logging.shutdown()
    os._exit(0)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
@click.option("--tls-cert", type=FILE, help="The server's certificate (PEM): serve HTTPS.")
@click.option("--tls-key", type=FILE, help="The certificate's key.")
@click.option(
    "--tls-client-ca", type=FILE, help="Authorities (PEM) that clients' certificates must chain to."
)
@click.option(
    "--insecure-http", is_flag=True, help="Serve other machines without TLS: tokens travel in plain text."
)
def main(
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    insecure_http: bool,
) -> None:
    """Serve Catchment's API. All settings are environment variables CATCHMENT_*."""
    logs.configure(logs.wanted(), "api")
    try:
        settings = Settings()
        export.configure("api", settings.otlp_endpoint)
        listening = Listening(host, port, tls_cert, tls_key, tls_client_ca, insecure_http)
        check_setup(settings, listening)
        context = listening.context()
        announce(settings, listening)
        sys.exit(asyncio.run(serve(settings, listening, context)))
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

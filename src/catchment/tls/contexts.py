"""Contexts for both ends of a connection, with the standard library alone."""

from __future__ import annotations

import ssl
from pathlib import Path

from catchment.errors import SetupError
from catchment.tls.reloading import ReloadingContext


def client_context(
    ca_file: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Verifies the server, by `ca_file` or the system's roots; shows a certificate where there is one.

    Raises:
        SetupError: a file cannot be read, or is no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"cannot use the certificates in {ca_file}: {error}") from error
    if certificate is not None:
        _load_pair(context, certificate, key)
    return context


def reloading_client_context(
    ca_file: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ReloadingContext:
    """`client_context` that follows its files. Raises SetupError as it does."""
    files = [path for path in (ca_file, certificate, key) if path is not None]
    return ReloadingContext(files, lambda: client_context(ca_file, certificate, key))


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """A server's context that follows its files from connection to connection.

    Clients are asked for a certificate when there is a `client_ca`. They need none; one that they show
    must be good, or there is no connection.

    Raises:
        SetupError: a file cannot be read, or they do not fit.
    """
    files = [path for path in (certificate, key, client_ca) if path is not None]
    reloading = ReloadingContext(files, lambda: _server_context(certificate, key, client_ca))

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext) -> None:
        connection.context = reloading.current()

    # OpenSSL asks for every handshake, also of a client that names no server.
    context = _server_context(certificate, key, client_ca)
    context.sni_callback = choose
    return context


def _server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # No session is resumed: each connection's certificate is checked anew, against the roots of the day.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    _load_pair(context, certificate, key)
    if client_ca is not None:
        try:
            context.load_verify_locations(str(client_ca))
        except (OSError, ssl.SSLError) as error:
            raise SetupError(f"cannot use the certificates in {client_ca}: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # Without a password of ours, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(str(certificate), str(key) if key else None, password="")
    except (OSError, ssl.SSLError) as error:
        both = f"{certificate} and {key}" if key else str(certificate)
        raise SetupError(f"cannot use the certificate and key in {both}: {error}") from error

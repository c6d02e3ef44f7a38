"""How the API is reached: where it listens, with or without TLS, and what of that is refused."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from catchment.errors import SetupError
from catchment.hosts import is_loopback
from catchment.settings import Settings
from catchment.tls.contexts import server_context


@dataclass(frozen=True)
class Listening:
    """Where to listen.

    Attributes:
        tls_cert: the server's certificate (PEM, with its chain); None for plain HTTP.
        tls_key: its key.
        tls_client_ca: the authorities of client certificates; None: none are asked for.
        insecure_http: tokens may travel in plain text to other machines.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure_http: bool = False

    @property
    def url(self) -> str:
        """The address."""
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def address(self) -> str:
        """What is bound: of `localhost` the one address that every machine has."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, which follows its files; None for plain HTTP. Raises SetupError."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return server_context(self.tls_cert, self.tls_key, self.tls_client_ca)

    def check(self, settings: Settings) -> None:
        """Refuse what would be unsafe or could not work.

        Raises:
            SetupError: says what to change.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SetupError("--tls-cert and --tls-key need each other")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SetupError("--tls-client-ca needs --tls-cert and --tls-key")
        if not is_loopback(self.host):
            self._check_exposed(settings)
        self._check_port()

    def _check_exposed(self, settings: Settings) -> None:
        if settings.auth != "tokens":
            raise SetupError(
                f"host {self.host} can be reached from other machines, so a login is needed: "
                "set CATCHMENT_AUTH=tokens, or bind to 127.0.0.1"
            )
        if self.tls_cert is None and not self.insecure_http:
            raise SetupError(
                f"host {self.host} can be reached from other machines, and without TLS tokens and models "
                "travel in plain text: give --tls-cert and --tls-key ('catchment tls init' makes them), "
                "or --insecure-http where the network itself is trusted or a proxy in front speaks TLS"
            )

    def _check_port(self) -> None:
        """A port that somebody has is said before anything begins."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.address, self.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise SetupError(
                f"cannot listen on {self.host} port {self.port}: {error.strerror or error}"
            ) from error

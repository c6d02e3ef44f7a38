"""Debian's `docker-registry` as a process: open, with logins, with TLS, with tokens of an issuer."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from catchment.tls.authority import Authority
from tests.conftest import free_port, wait_until

USER, PASSWORD = "robot$train", "s3cret:with/signs"
SERVICE, ISSUER = "tests.registry", "tests.issuer"
REGISTRY_LEEWAY_S = 60
"""docker-registry takes a token for so long after it has expired."""


@dataclass
class Server:
    """A running registry.

    Attributes:
        host: its host and port.
        ca_file: what its certificate is checked against, where it has one.
        username, password: a login that it knows, where it wants one.
        issuer: where it sends whoever has no token.
    """

    host: str
    ca_file: Path | None = None
    username: str = ""
    password: str = ""
    issuer: TokenIssuer | None = None


@contextlib.contextmanager
def docker_registry(
    folder: Path, *, login: bool = False, tls: Authority | None = None, issuer: TokenIssuer | None = None
) -> Iterator[Server]:
    """A `docker-registry` for the time of a `with` block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of these tests"},
    }
    server = Server(f"127.0.0.1:{port}", issuer=issuer)
    if login:
        entry = subprocess.run(
            ["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (folder / "htpasswd").write_text(entry)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        server.username, server.password = USER, PASSWORD
    if tls:
        pair = tls.server
        config["http"]["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
        server.ca_file = tls.ca.certificate
    if issuer:
        config["auth"] = {
            "token": {
                "realm": issuer.url,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(issuer.certificate),
            }
        }
        server.username, server.password = USER, PASSWORD
    # JSON is YAML, too.
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("ab") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: _answers(server), timeout_s=30, what="docker-registry")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _answers(server: Server) -> bool:
    connection: http.client.HTTPConnection
    if server.ca_file:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        connection = http.client.HTTPSConnection(server.host, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(server.host, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except OSError:
        return False
    finally:
        connection.close()


@dataclass
class TokenIssuer:
    """Gives tokens for exactly the scopes that are asked for, to whoever knows the login.

    Attributes:
        url: its address.
        certificate: what the registry checks tokens with.
        life_s: how long a token is good.
        told_life_s: what it says about that; None: the truth.
        asked: scopes of each request that was granted.
        authorizations: the Authorization header of every request.
    """

    url: str
    certificate: Path
    life_s: float = 300
    told_life_s: float | None = None
    asked: list[list[str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def grant(self, scopes: list[str], key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        """The body of an answer: a JWT as docker-registry wants it."""
        now = time.time()
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "exp": int(now + self.life_s - REGISTRY_LEEWAY_S),
            "nbf": int(now) - 300,
            "iat": int(now) - 300,
            "jti": "1",
            "access": access,
        }
        self.asked.append(scopes)
        told = self.told_life_s if self.told_life_s is not None else self.life_s
        return {"token": _jwt(claims, key), "expires_in": told}


@contextlib.contextmanager
def token_issuer(folder: Path) -> Iterator[TokenIssuer]:
    """An issuer for the time of a `with` block."""
    authority = Authority(folder / "issuer")
    authority.create([], [])
    loaded = serialization.load_pem_private_key(authority.ca.key.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    key = loaded
    expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            issuer.authorizations.append(given)
            query = parse_qs(urlsplit(self.path).query)
            if given != f"Basic {expected}" or query.get("service") != [SERVICE]:
                self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]})
            else:
                self._answer(200, issuer.grant(query.get("scope", []), key))

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with http_server(Handler) as port:
        issuer = TokenIssuer(f"http://127.0.0.1:{port}/token", authority.ca.certificate)
        yield issuer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: some tests are about that."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server on loopback for the time of a `with` block; its port."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _jwt(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    name = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
    kid = ":".join(name[at : at + 4] for at in range(0, 48, 4))
    head = {"typ": "JWT", "alg": "ES256", "kid": kid}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_base64url(r.to_bytes(32) + s.to_bytes(32))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

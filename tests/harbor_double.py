"""What Harbor's own API answers for lists: paged, with names encoded twice, for who is logged in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from catchment.registry.credentials import Credentials
from tests.registry_servers import PASSWORD, USER, http_server


@dataclass
class Harbor:
    """Repositories by project, artifacts by repository, and what was asked."""

    host: str = ""
    projects: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def find(self, path: str) -> list[dict[str, Any]] | None:
        """The list at a path below /api/v2.0; None where there is none."""
        parts = path.strip("/").split("/")
        if parts == ["projects"]:
            return [{"name": name, "project_id": n} for n, name in enumerate(self.projects)]
        if parts == ["repositories"]:
            return [{"name": f"{p}/{name}"} for p, names in self.projects.items() for name in names]
        names = self.projects.get(parts[1])
        if names is None or len(parts) < 3:
            return None
        if len(parts) == 3:
            return [{"name": f"{parts[1]}/{name}"} for name in names]
        # A proxy before Harbor decodes once, Harbor itself once more.
        return names.get(unquote(unquote(parts[3])))


@contextlib.contextmanager
def harbor() -> Iterator[Harbor]:
    """A server for the time of a `with` block."""
    state = Harbor()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.asked.append(self.path)
            parts = urlsplit(self.path)
            if parts.path == "/api/v2.0/ping":
                self.answer(200, b"Pong")
            elif self.headers.get("Authorization") != Credentials(USER, PASSWORD).basic():
                self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}')
            else:
                self.page(parts.path.removeprefix("/api/v2.0"), parse_qs(parts.query))

        def page(self, path: str, query: dict[str, list[str]]) -> None:
            found = state.find(path)
            if found is None:
                self.answer(404, b'{"errors":[{"code":"NOT_FOUND","message":"not found"}]}')
                return
            size = min(int(query.get("page_size", ["10"])[0]), 100)
            number = int(query.get("page", ["1"])[0])
            last = number * size >= len(found)
            more = f"page={number + 1}&page_size={size}"
            link = {} if last else {"Link": f'</api/v2.0{path}?{more}>; rel="next"'}
            body = json.dumps(found[(number - 1) * size : number * size]).encode()
            self.answer(200, body, {"X-Total-Count": str(len(found)), **link})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with http_server(Handler) as port:
        state.host = f"127.0.0.1:{port}"
        yield state

"""A small HTTP server that answers from a table, and remembers what it was asked."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

Answer = tuple[int, Any] | Callable[[], tuple[int, Any]]


class TableServer:
    """Answers `METHOD /path?query` with (status, JSON or bytes); an unknown path with 404 problem details.

    A list of answers is given out one by one, its last for ever. `headers` are what an answer has besides.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        self.headers: dict[str, dict[str, str]] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.close_each = False
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                line = f"{self.command} {self.path}"
                owner.asked.append((line, json.loads(body) if body else None, dict(self.headers)))
                status, content = owner.next(line)
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                for name, value in owner.headers.get(line, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
                if owner.close_each:  # without saying so: as a server that gives up idle connections
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), daemon=True)
        self._thread.start()

    def next(self, line: str) -> tuple[int, Any]:
        missing = (404, {"status": 404, "detail": f"there is nothing at {line}"})
        answer = self.answers.get(line, missing)
        if isinstance(answer, list):
            answer = answer[min(self.counts[line], len(answer) - 1)]
        self.counts[line] += 1
        return answer() if callable(answer) else answer

    def lines(self) -> list[str]:
        return [line for line, _, _ in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def job_document(
    state: str = "RUNNING", *, progress: int = 0, reason: str = "", run: int = 1
) -> dict[str, Any]:
    """A job as the API shows it."""
    return {
        "id": "digits",
        "namespace": "default",
        "create_time": "2026-01-01T00:00:00Z",
        "start_time": None,
        "finish_time": None,
        "status": {"state": state, "reason": reason, "progress": progress},
        "checkpoints": {
            "checkpoint_v10": {"accuracy": None, "path": "o/10"},
            "checkpoint_v2": {"accuracy": 0.5, "path": "o/2"},
        },
        "run": run,
        "flow_run_id": "f-1",
        "hyper_parameters": {"max_round_num": 4, "evaluate_interval": 2, "save_interval": 4},
    }


def round_document(
    number: int, state: str = "committed", *, attempt: int = 0, evaluated: bool = False, reason: str = ""
) -> dict[str, Any]:
    """A round as the API shows it."""
    site = {"reason": "", "num_samples": 10, "seconds": 0.5, "bytes": 1, "metrics": None}
    return {
        "run": 1,
        "round": number,
        "attempt": attempt,
        "state": state,
        "reason": reason,
        "rule": "all",
        "cohort": ["site-1", "site-2"],
        "started_at": "2026-01-01T00:00:00Z",
        "seconds": 1.25,
        "phases": {"evaluate": 0.1 if evaluated else None},
        "training_metrics": {"loss": 1.0},
        "metrics": {"accuracy": 0.9, "loss": 0.25, "sample_num": 20} if evaluated else None,
        "sites": [
            {**site, "site": "site-1", "outcome": "admitted"},
            {**site, "site": "site-2", "outcome": "failed", "reason": "exit code 1\nand more"},
        ],
        "evaluation": [],
    }


def model_job_document(phase: str = "Pending", message: str = "", **more: Any) -> dict[str, Any]:
    """A ModelJob as the API shows it."""
    pair = {"mmdnn": {"from": "H5", "to": "ONNX"}}
    return {
        "apiVersion": "kleveross.io/v1alpha1",
        "kind": "ModelJob",
        "metadata": {"name": "slims", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"model": "default/net:v1", "desiredTag": "default/net:v2", "conversion": pair},
        "status": {"phase": phase, "message": message, **more},
    }

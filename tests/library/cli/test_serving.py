"""`catchment serving`: what is sent to the server and its gateway, and what is printed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from catchment.cli import serving_bodies as bodies
from catchment.errors import Refused
from catchment.serving.spec import parse

Command = Callable[..., Result]
METADATA = {"name": "digits", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], "outputs": []}


class Gateway:
    """Answers metadata, and inferences with the sum of each row."""

    def __init__(self) -> None:
        owner = self
        self.bodies: list[tuple[dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(METADATA)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.bodies.append((dict(self.headers), body))
                if "Inference-Header-Content-Length" in self.headers:
                    raw = body[int(self.headers["Inference-Header-Content-Length"]) :]
                    rows = np.frombuffer(raw, "<f4").reshape(-1, 2)
                else:
                    rows = np.array(json.loads(body)["inputs"][0]["data"]).reshape(-1, 2)
                sums = rows.sum(axis=1)
                output = {"name": "y", "datatype": "FP32", "shape": [len(sums)], "data": sums.tolist()}
                self.answer({"model_name": "digits", "outputs": [output]})

            def answer(self, document: object) -> None:
                raw = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(0.02), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    running = Gateway()
    yield running
    running.close()


def test_numbers_of_all_three_kinds_of_files_are_asked_about(
    command: Command, gateway: Gateway, tmp_path: Path
):
    rows = [[1.0, 2.0], [3.0, 4.5]]
    np.save(tmp_path / "rows.npy", np.array(rows))
    (tmp_path / "rows.csv").write_text("1,2\n3,4.5\n")
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": rows}]}
    (tmp_path / "rows.json").write_text(json.dumps(request))
    for name in ("rows.npy", "rows.csv", "rows.json"):
        done = command("serving", "predict", "digits", str(tmp_path / name), "--server", gateway.url)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == "y [2]\n[3.  7.5]\n"
    told = command(
        "serving", "predict", "digits", str(tmp_path / "rows.csv"), "--json", "--server", gateway.url
    )
    assert json.loads(told.stdout)["outputs"][0]["data"] == [3.0, 7.5]


def test_what_cannot_be_asked_is_said(command: Command, gateway: Gateway, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    done = command("serving", "predict", "digits", str(tmp_path / "rows.csv"), "--server", gateway.url)
    assert (done.exit_code, "takes the shape [-1, 2]" in done.stderr) == (1, True)
    (tmp_path / "rows.json").write_text("{}")
    options = ("--input", "x", "--server", gateway.url)
    done = command("serving", "predict", "digits", str(tmp_path / "rows.json"), *options)
    assert "names its inputs itself" in done.stderr
    assert gateway.bodies == []


def shown(**short: object) -> dict[str, object]:
    """A serving as the server shows it."""
    new = parse({"name": "digits", "model": "default/digits:v1", **short}, "default", "local")
    meta = {"name": "digits", "namespace": "default", "resourceVersion": "3"}
    return {**new.body, "metadata": {**meta, "labels": {"a": "b"}, "annotations": new.annotations}}


def test_an_update_changes_what_its_options_say_and_leaves_the_rest() -> None:
    before = shown(
        replicas=2, env={"TZ": "UTC"}, canary={"steps": [10], "approval": True}, server={"queue": 9}
    )
    body = bodies.changed(before, {"model": "default/digits:v2", "approval": False, "replicas": None})
    new = parse(body, "default", "local")
    old = parse(before, "default", "local")
    assert new.generation == 3
    assert (new.labels, new.spec.server) == ({"a": "b"}, {"queue": 9})
    assert new.spec.predictors == (old.spec.predictors[0].model_copy(update={"model": "default/digits:v2"}),)
    assert new.spec.canary == old.spec.canary.model_copy(update={"approval": False})
    scaled = parse(bodies.changed(before, {"replicas": 4, "format_": "ONNX"}), "default", "local")
    assert (scaled.spec.predictors[0].replicas, scaled.spec.predictors[0].format) == (4, "ONNX")
    with pytest.raises(Refused, match="nothing is to be changed"):
        bodies.changed(before, {"model": None, "approval": None})

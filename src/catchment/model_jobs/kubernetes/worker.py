"""What a step's containers run: `python -m catchment.model_jobs.kubernetes.worker fetch|run|deliver`.

They end with 0, or with the original's codes: 16 the API does not know the token, 17 the model cannot be
fetched, 18 it cannot be written, 19 the task has failed, 20 its result cannot be written or read, 21 it
cannot be delivered. A task that fails with a reason is delivered too, so that the ModelJob says it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

from catchment.client.connection import Connection, answered_error
from catchment.errors import (
    BadArtifact,
    CatchmentError,
    DigestMismatch,
    Forbidden,
    JobStopped,
    TransferError,
    Unauthorized,
    Unreachable,
)
from catchment.formats.convert.environments import Environments
from catchment.model_jobs import working
from catchment.model_jobs.working import Task
from catchment.models.files import ModelFile, files_of, plain_name

log = logging.getLogger("catchment.worker")
STOPPED = 128 + signal.SIGTERM
"""The node ends the pod; that says nothing about the model."""
LOGIN, PULL, EXPORT, TASK, SAVE, PUSH = 16, 17, 18, 19, 20, 21
TRIES = 6
FIRST_WAIT_S = 1.0
SILENCE_S = 60.0
PIECE_BYTES = 1 << 20
MAX_OUTCOME_BYTES = 16 << 20
TASK_FILE, OUTCOME_FILE, MODEL, MADE = "task.json", "outcome.json", "model", "made"
T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Folders of a pod; a test has others.

    Attributes:
        input: task.json, and model/ with the source's files.
        output: outcome.json, and made/ with what was made.
        environments: of the backends of conversion.
    """

    input: Path
    output: Path
    environments: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Places:
        """As the manifests lay them out, below CATCHMENT_WORK_ROOT."""
        root = Path(environ.get("CATCHMENT_WORK_ROOT", "/"))
        built = environ.get("CATCHMENT_ENVIRONMENTS", "/opt/catchment/environments")
        return cls(root / "work/input", root / "work/output", Path(built))


class Server:
    """The API, as far as a pod may ask it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        token = Path(environ["CATCHMENT_WORK_TOKEN_FILE"]).read_text().strip()
        uid, _, step = environ["CATCHMENT_WORK"].partition("/")
        self._path = f"/api/v1/modeljob-work/{quote(uid, safe='')}/{quote(step, safe='')}"
        # Within a cluster plain HTTP is the rule; who wants more gives the setting an https address.
        self._connection = Connection(environ["CATCHMENT_WORK_URL"], token, SILENCE_S, insecure_http=True)

    def assignment(self) -> dict[str, Any]:
        """The task and the names of its files."""
        return dict(self._again(lambda: self._connection.json("GET", self._path)))

    def fetch(self, number: int, target: Path, digest: str) -> None:
        """Write a file of the source. Raises DigestMismatch for other bytes than were announced."""

        def once() -> None:
            sha256 = hashlib.sha256()
            with (
                self._connection.receiving(f"{self._path}/files/{number}", {}) as answer,
                target.open("wb") as file,
            ):
                while piece := answer.read(PIECE_BYTES):
                    sha256.update(piece)
                    file.write(piece)
            if (got := f"sha256:{sha256.hexdigest()}") != digest:
                raise DigestMismatch(digest, got)

        self._again(once)

    def put(self, name: str, path: Path) -> None:
        """Bring a file of the result."""
        digest, size = _digest(path)
        query = urlencode({"path": name, "digest": digest})
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}

        def once() -> None:
            status, _, content = self._connection.send(
                "PUT", f"{self._path}/files?{query}", _pieces(path), headers
            )
            if status >= 300:
                raise answered_error(status, content, f"PUT {name}")

        self._again(once)

    def deliver(self, outcome: Mapping[str, Any]) -> None:
        """Bring the outcome; the ModelJob goes on."""
        self._again(lambda: self._connection.json("POST", f"{self._path}/outcome", outcome))

    def _again(self, ask: Callable[[], T]) -> T:
        """Ask until it is answered, some times over."""
        wait_s = FIRST_WAIT_S
        for _ in range(TRIES - 1):
            try:
                return ask()
            except (Unreachable, TransferError) as error:
                log.warning("%s; trying again in %g s", error, wait_s)
                time.sleep(wait_s)
                wait_s *= 2
        return ask()


def fetch(places: Places, server: Server) -> None:
    """Container model-initializer: the task, and the model that it is about."""
    told = _or_end(PULL, server.assignment)
    try:
        (places.input / MODEL).mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(told["files"]):
            target = places.input / MODEL / plain_name(file["path"])
            target.parent.mkdir(parents=True, exist_ok=True)
            _or_end(PULL, lambda: server.fetch(number, target, file["digest"]))  # noqa: B023 - called at once
            log.info("fetched %s, %d bytes", file["path"], file["sizeBytes"])
        (places.input / TASK_FILE).write_text(json.dumps(told["task"]))
    except OSError as error:
        _end(EXPORT, f"the model cannot be written: {error}")


def run(places: Places) -> None:
    """Container executor: the task itself, without network or token."""
    task = Task.from_json(json.loads((places.input / TASK_FILE).read_bytes()))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    log.info("%s of %s%s", task.kind, task.format, f" to {task.target}" if task.target else "")
    environments = Environments(places.environments, allow_builds=False)
    try:
        found = working.work(task, places.input / MODEL, places.output / MADE, environments, stop)
        outcome = {"found": found}
    except JobStopped as stopped:
        _end(STOPPED, str(stopped))
    except CatchmentError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is what counts
        outcome = {"problem": working.problem(error)}
    try:
        (places.output / OUTCOME_FILE).write_text(json.dumps(outcome))
    except OSError as error:
        _end(SAVE, f"the outcome cannot be written: {error}")


def deliver(places: Places, server: Server) -> None:
    """Container publisher: what the executor made, which is not trusted."""
    try:
        outcome = _outcome(places.output / OUTCOME_FILE)
        made = places.output / MADE
        files = _made_files(made) if "found" in outcome else []
    except (BadArtifact, OSError, ValueError) as error:
        _end(SAVE, f"the result cannot be read: {error}")
    for file in files:
        name = file.name.partition("/")[2]
        _or_end(PUSH, lambda: server.put(name, made / name))  # noqa: B023 - called at once
        log.info("brought %s, %d bytes", name, file.size)
    _or_end(PUSH, lambda: server.deliver(outcome))
    if "problem" in outcome:
        _end(TASK, str(outcome["problem"].get("message")))


def _made_files(made: Path) -> list[ModelFile]:
    """The files of a conversion, none for an extraction. Raises BadArtifact for links and the like."""
    if made.is_symlink():
        raise BadArtifact("the folder of the result is a link")
    return files_of(made) if made.is_dir() else []


def _outcome(path: Path) -> dict[str, Any]:
    """The executor's JSON. Raises ValueError, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        data = file.read(MAX_OUTCOME_BYTES + 1)
    if len(data) > MAX_OUTCOME_BYTES:
        raise ValueError(f"the outcome has more than {MAX_OUTCOME_BYTES} bytes")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise BadArtifact("the outcome is no object")
    return found


def _digest(path: Path) -> tuple[str, int]:
    sha256, size = hashlib.sha256(), 0
    for piece in _pieces(path):
        sha256.update(piece)
        size += len(piece)
    return f"sha256:{sha256.hexdigest()}", size


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _or_end(code: int, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (Unauthorized, Forbidden) as error:
        _end(LOGIN, str(error))
    except CatchmentError as error:
        _end(code, str(error))


def _end(code: int, words: str) -> NoReturn:
    log.error("%s", words)
    raise SystemExit(code)


def main(arguments: list[str]) -> None:
    """Do one container's part."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    (mode,) = arguments
    places = Places.of(os.environ)
    if mode == "run":
        run(places)
    elif mode in ("fetch", "deliver"):
        {"fetch": fetch, "deliver": deliver}[mode](places, Server(os.environ))
    else:
        raise SystemExit(f"{mode!r} is none of fetch, run, deliver")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        log.exception("this container's part has failed")
        sys.exit(TASK)

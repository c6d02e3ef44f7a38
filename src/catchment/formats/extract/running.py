"""Extraction in a confined child process: what a model's files do, they do to that process."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from catchment.errors import ExtractionFailed
from catchment.formats.extract import readers
from catchment.formats.extract.result import Extracted
from catchment.site import limits as numerical
from catchment.site import processes

log = logging.getLogger(__name__)

_ENTRY = Path(__file__).with_name("__main__.py")
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""All that the child sees of this process's environment: no token, no address, no secret."""
_KEPT_LOG_BYTES = 16_384
_PIECE = 65_536


@dataclass(frozen=True)
class Limits:
    """What one extraction may use.

    Attributes:
        memory_mb: private memory; a mapped file does not count.
        cpu_s: processor time.
        time_s: seconds on the clock.
        output_bytes: of the result as JSON.
    """

    memory_mb: int = 512
    cpu_s: int = 30
    time_s: float = 120.0
    output_bytes: int = 8 * 2**20


DEFAULT = Limits()


def run_extraction(folder: Path, format_name: str, limits: Limits = DEFAULT) -> Extracted:
    """What the model in `folder` says of itself, read in a child process that ends with this call.

    Args:
        folder: holds the model's files, as `model/` of an ORMB artifact does.
        format_name: as in `readers.READERS`; letters may be cased otherwise.
        limits: of the child.

    Raises:
        ExtractionFailed: the files are not of the format, damaged or hostile, or took more than they may.
    """
    process = subprocess.Popen(
        command(folder, readers.named(format_name), limits),
        cwd="/",
        env=environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output = _output(process, limits)
    finally:
        processes.signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return _result(output, process.returncode, limits)


def command(folder: Path, format_name: str, limits: Limits) -> list[str]:
    """What is started; it expects to be a child of this process."""
    told = json.dumps({**asdict(limits), "parent": os.getpid()})
    return [sys.executable, "-I", "-B", str(_ENTRY), str(folder.absolute()), format_name, told]


def _output(process: subprocess.Popen[bytes], limits: Limits) -> bytes:
    """What the child printed, once it has ended."""
    deadline = time.monotonic() + limits.time_s
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    with selectors.DefaultSelector() as selector:
        for name in kept:
            selector.register(getattr(process, name), selectors.EVENT_READ, name)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready:
                raise ExtractionFailed(f"reading the model took longer than {limits.time_s:g} s")
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                kept[key.data] += piece
                del kept["stderr"][:-_KEPT_LOG_BYTES]
                if len(kept["stdout"]) > limits.output_bytes + _PIECE:
                    raise ExtractionFailed("reading the model gave far more output than it may")
    try:
        process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        raise ExtractionFailed(f"reading the model took longer than {limits.time_s:g} s") from None
    if kept["stderr"]:
        log.info("extraction child said %r", kept["stderr"].decode(errors="replace"))
    return bytes(kept["stdout"])


def _result(output: bytes, code: int, limits: Limits) -> Extracted:
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and not output):
        raise ExtractionFailed(
            f"reading the model took more than {limits.cpu_s} s of processor time, or was killed"
        )
    if code < 0:
        name = signal.Signals(-code).name
        raise ExtractionFailed(
            f"the process that read the model ended with {name}: its files are damaged or hostile"
        )
    try:
        told = json.loads(output)
        if "error" not in told:
            return Extracted.from_json(told)
        problem = str(told["error"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ExtractionFailed(
            f"the process that read the model ended with code {code} and no result"
        ) from error
    raise ExtractionFailed(problem)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The child's environment, out of this process's."""
    kept = {name: environ[name] for name in _INHERITED if name in environ}
    return {**kept, **numerical.thread_variables(1), "HOME": "/nonexistent", "HDF5_USE_FILE_LOCKING": "FALSE"}

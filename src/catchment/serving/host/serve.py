"""The life of a serving host's process: what it needs, its signals, its end."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path

from catchment.errors import SetupError
from catchment.serving.host.host import Host, Terms
from catchment.serving.host.launching import Surroundings
from catchment.settings import Settings
from catchment.stack.project import find_project
from catchment.stopping import on_stop_signals
from catchment.store import open_store

NEEDED = ("granian", "grpc", "onnxruntime", "orjson", "google.protobuf")
"""What the extra `serving` installs."""


def missing_packages() -> list[str]:
    """What lacks here to serve models."""
    return [name for name in NEEDED if not _is_there(name)]


def run_host(settings: Settings, start: Path, *, stop_s: float, guard: int | None = None) -> None:
    """Keep the store's workloads running until SIGTERM or SIGINT; call it from the main thread.

    Args:
        settings: of the store and its home.
        start: the project's folder, or one below it.
        stop_s: at a signal the model servers have so long.
        guard: descriptor of the pipe to the guard of `catchment up`.

    Raises:
        SetupError: the extra `serving`, the project or the store is not there as it should be.
        Unreachable: the database does not answer.
    """
    if missing := missing_packages():
        raise SetupError(f"to serve models here, install the extra 'serving': {', '.join(missing)} lacks")
    if guard is not None:
        os.set_inheritable(guard, False)  # for those only that announce themselves
    surroundings = Surroundings(find_project(start), guard)
    store = open_store(settings)
    try:
        host = Host(store, Terms(socket.gethostname(), surroundings, stop_s=stop_s))
        on_stop_signals(host.stop)
        host.run()
    finally:
        store.close()


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False

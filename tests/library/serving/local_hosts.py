"""Serving hosts as users run them: processes of their own, over a store and its local backend."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from catchment.catalog import made
from catchment.catalog.audit import Actor
from catchment.catalog.rows import VersionFile, by_id
from catchment.serving.backends.local import LocalBackend
from catchment.serving.host import rows
from catchment.serving.workload import ServedModel, ServingKey, Workload
from catchment.settings import Settings
from catchment.store import Store, migrate, open_store
from catchment.store.blobs import put_bytes
from catchment.store.database import Transaction
from catchment.store.schema import servings
from tests import model_servers
from tests.conftest import ROOT, wait_until

_numbers = itertools.count(1)


class LocalHarness:
    """A store with its local backend."""

    deadline_s = 60.0
    real_servers = True

    def __init__(self, home: Path, database_url: str, folder: Path) -> None:
        self.settings = Settings(home=home, database_url=database_url)
        migrate(self.settings)
        self.store: Store = open_store(self.settings)
        self.backend = LocalBackend(self.store)
        self.folder = folder

    def serving(self) -> ServingKey:
        key = ServingKey("default", f"digits-{next(_numbers)}", secrets.token_hex(16))
        self.store.db.write(lambda tx: _insert_serving(tx, key))
        return key

    def model(self, kind: str = "identity") -> ServedModel:
        if kind == "broken":
            data = b"this is no ONNX model"
        else:
            folder = model_servers.identity(self.folder / secrets.token_hex(4), "FP32")
            data = (folder / "model.onnx").read_bytes()
        return self.register(data)

    def register(self, data: bytes, format: str = "ONNX") -> ServedModel:
        """A ready version with one file of these bytes."""
        version = f"v{next(_numbers)}"
        digest = put_bytes(self.store.blobs, data)
        file = VersionFile("model.onnx", digest, len(data))

        def step(tx: Transaction) -> Any:
            columns = {"runtime": "onnx", "format": format, "lineage": {}}
            names = {"namespace": "default", "name": "net", "version": version}
            return by_id(tx, made.insert_ready(tx, [file], Actor(), **names, **columns))

        row = self.store.db.write(step)
        return ServedModel(
            row.id, f"default/net:{version}", row.digest, row.format, ({"name": "x"},), ({"name": "y"},), 1
        )

    def crash(self, workload: Workload) -> None:
        os.kill(self.pids(workload)[0], signal.SIGKILL)

    def rows(self, workload: Workload) -> list[Any]:
        """The rows of the workload's replicas."""
        uid, key = workload.serving.uid, workload.key
        return self.store.db.read(lambda tx: rows.endpoints(tx, uid, key))

    def pids(self, workload: Workload) -> list[int]:
        """Of the processes of its ready replicas."""
        return [row.pid for row in self.rows(workload) if row.state == "ready"]

    def close(self) -> None:
        self.store.close()


def _insert_serving(tx: Transaction, key: ServingKey) -> None:
    tx.execute(
        insert(servings).values(
            uid=key.uid,
            namespace=key.namespace,
            name=key.name,
            labels={},
            annotations={},
            body={},
            spec={},
            backend="local",
            state="Creating",
            created_by={},
            created_at=tx.now,
            updated_at=tx.now,
            weights={},
        )
    )


class HostProcess:
    """`python -m catchment.serving.host`."""

    def __init__(self, settings: Settings, log: Path, *options: str) -> None:
        self.log = log
        environment = {
            **os.environ,
            "CATCHMENT_HOME": str(settings.home),
            "CATCHMENT_DATABASE_URL": settings.database_url,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
        }
        with log.open("ab") as written:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "catchment.serving.host", *options],
                cwd=ROOT,
                env=environment,
                stdout=written,
                stderr=written,
            )

    def said(self, words: str) -> None:
        """Wait until its log says this."""

        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return words in self.log.read_text()

        wait_until(look, timeout_s=60, what=f"{words!r} in the log of a host")

    def stop(self, timeout_s: float = 30.0) -> int:
        """Its exit code after SIGTERM."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def host(harness: LocalHarness, name: str = "host", *options: str) -> Iterator[HostProcess]:
    """A running host; at the end it and every model server of its home are gone, whatever happened."""
    running = HostProcess(harness.settings, harness.folder / f"{name}.log", *options)
    try:
        running.said("serving host ready")
        yield running
    finally:
        if running.process.poll() is None:
            try:
                running.stop()
            except subprocess.TimeoutExpired:
                running.kill()

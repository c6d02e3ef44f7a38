"""A site whose runner isolates the scripts that come with the work."""

from __future__ import annotations

import json
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import catchment
from catchment.site.config import SiteConfig
from catchment.site.home import Home
from catchment.site.http import Endpoint
from catchment.site.isolation import Isolator
from catchment.site.launch import Launcher
from catchment.site.placement import Place
from catchment.site.policy import Policy
from catchment.site.runner import Runner
from catchment.site.work import Work
from catchment.wire.messages import Blob, Isolation, SentScripts, SiteResources, WorkOrder, WorkResult

SOURCES = str(Path(catchment.__file__).resolve().parent.parent)
WEIGHTS = Blob(digest="sha256:" + "0" * 64, size_bytes=1)

# A host may forbid namespaces (a container's seccomp filter does); what is tested then is that it is said.
allowed = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "-Urmnp", "--fork", "--mount-proc", "true"], check=False, capture_output=True
    ).returncode
    != 0,
    reason="this host allows no namespaces",
)


class Site:
    """One site's runner, with scripts that come with the work."""

    def __init__(self, folder: Path, launcher: Launcher, **config: Any) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text("the-sites-token")
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "patients.csv").write_text("1,2,3")
        (folder / "other").mkdir()
        (folder / "other" / "patients.csv").write_text("4,5,6")
        self.home = Home(folder / "home")
        for part in (self.home.work, self.home.logs, self.home.cache, self.home.outbox):
            part.mkdir(parents=True)
        values: dict[str, Any] = {
            "name": "site-1",
            "endpoint": Endpoint("http://127.0.0.1:1"),
            "home": self.home.folder,
            "address": "site-1",
            "datasets": {"patients": self.data, "other": folder / "other"},
            "entries": folder / "entries",
            "runtimes": ("pytorch", "keras"),
            "resources": SiteResources(cpu=2, memory_mb=8000),
            "policy": Policy("always"),
            "secrets": (self.token,),
        }
        self.config = SiteConfig(**{**values, **config})
        self.isolator = Isolator.tried_out(self.config, self.home)
        self._source = ""
        self._runner = Runner(self.config, self.home, launcher, self._fetch, isolator=self.isolator)
        self._count = 0

    def _fetch(self, work: Work, blob: Blob, target: Path) -> None:
        if target.name == ".archive.zip":
            target.write_bytes(archive_of(self._source))
            return
        save_file({"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(3, np.float32)}, target)

    def run(self, source: str, **order: Any) -> WorkResult:
        """Run a sent script."""
        self._source = source
        self._count += 1
        values: dict[str, Any] = {
            "work_id": f"w{self._count}",
            "kind": "train",
            "namespace": "default",
            "job_id": "digits",
            "run": 1,
            "round": 1,
            "attempt": 0,
            "runtime": "pytorch",
            "weights": WEIGHTS,
            "scripts": SentScripts(archive=WEIGHTS, config_file="entry.json", folder="scripts"),
            "datasets": ("patients",),
            "seed": 1,
            "timeout_s": 60.0,
        }
        self.work = Work.accept(self.home.work, WorkOrder(**{**values, **order}))
        return self._runner.run(self.work, Place())

    def report(self) -> Isolation:
        assert self.isolator.report is not None
        return self.isolator.report


def archive_of(source: str) -> bytes:
    entry = {"train": {"entry": "main.py"}, "evaluate": {"entry": "main.py"}}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("entry.json", json.dumps(entry))
        archive.writestr("main.py", source)
    return buffer.getvalue()

"""A migrated store with a model file in it, and the API over it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from catchment.settings import Settings
from catchment.store import migrate
from tests.api.serving import InProcess, RecordingLauncher, in_process


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose namespace `default` has an initial model; to be copied, never used."""
    made = tmp_path_factory.mktemp("migrated")
    migrate(Settings(home=made))
    model = {"weight": np.zeros((2, 3), np.float32)}
    save_file(model, made / "namespaces" / "default" / "initial.safetensors")
    return made


@pytest.fixture
def home(tmp_path: Path, migrated_home: Path) -> Path:
    return Path(shutil.copytree(migrated_home, tmp_path / "home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    # The supervisor looks when it is woken, and otherwise long after the test is over.
    return Settings(home=home, supervise_s=3600)


@pytest.fixture
def launcher() -> RecordingLauncher:
    return RecordingLauncher()


@pytest.fixture
def api(settings: Settings, launcher: RecordingLauncher) -> Iterator[InProcess]:
    with in_process(settings, launcher) as opened:
        yield opened


@pytest.fixture
def job() -> Callable[..., dict[str, Any]]:
    """Makes bodies of jobs that are as they should be, but for what is given."""

    def make(job_id: str = "digits", **changes: Any) -> dict[str, Any]:
        body = {
            "id": job_id,
            "runtime": "pytorch",
            "model_path": "initial.safetensors",
            "task_entry": "digits",
            "output": "results",
        }
        return {**body, **changes}

    return make

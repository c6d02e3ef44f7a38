"""Environments of converters that all tests share, and what their makers of sample models write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from catchment.formats.convert.backend import BACKENDS
from catchment.formats.convert.environments import Environments
from tests.conftest import ROOT

MAKERS = ROOT / "tests" / "library" / "formats" / "convert" / "makers"
# Other tests of this process may have chosen Keras' backend by now.
VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
MAKE_S = 240
"""Making the models takes 10 s; the machine may be busy."""


def environments_folder() -> Path:
    """Outside of the checkout, and kept: a build takes a minute, a test run should not."""
    given = os.environ.get("CATCHMENT_TEST_ENVIRONMENTS")
    return Path(given) if given else Path("~/.cache/catchment-test-environments").expanduser()


def run_maker(environments: Environments, backend: str, script: str, *arguments: object) -> None:
    """Run a script of `makers/` in a backend's environment, which is built where it is not there."""
    python = environments.get(BACKENDS[backend]).python
    made = subprocess.run(
        [python, "-I", MAKERS / script, *map(str, arguments)],
        check=False,
        timeout=MAKE_S,
        env={**os.environ, **VARIABLES},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-4000:]

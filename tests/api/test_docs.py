"""The guide's examples work as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.api.serving import ROOT, api_process
from tests.conftest import free_port

GUIDE = ROOT / "docs" / "api.md"


@pytest.mark.needs("curl")
def test_the_examples_of_the_guide_work(home: Path) -> None:
    examples = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(examples) == 5
    with api_process(home, free_port()) as running:
        for example in examples:
            done = subprocess.run(
                ["bash", "-e", "-c", example],
                env={**os.environ, "API": running.url, "no_proxy": "*"},
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

"""The wheel holds the library alone; flows, tasks and api run from a checkout or an image."""

from __future__ import annotations

import subprocess
import sys
import zipfile

from tests.conftest import ROOT


def test_the_wheel_holds_catchment_only_with_its_migrations(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(ROOT)),
        ],
        check=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("catchment-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert top == {"catchment"}
    assert any(name.startswith("catchment/store/migrations/versions/0001") for name in names)

"""The kustomizations that people apply, rendered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.deployments.kustomizing import Object, render

KUBERNETES = ROOT / "deployments" / "kubernetes"
SITE = ROOT / "deployments" / "site" / "kubernetes"
APPLIED = sorted(
    path.parent
    for folder in (KUBERNETES / "overlays", SITE)
    for path in folder.rglob("kustomization.yaml")
    if path.parent.name != "base" and "kind: Kustomization" in path.read_text()
)


@pytest.fixture(params=APPLIED, ids=lambda path: str(path.relative_to(ROOT / "deployments")))
def folder(request: pytest.FixtureRequest) -> Path:
    """One of the kustomizations."""
    return Path(request.param)


@pytest.fixture
def objects(folder: Path) -> list[Object]:
    """Its objects."""
    return render(folder)

"""Which backend a name opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from catchment.errors import InvalidField, SetupError
from catchment.serving.backends import NAMES, open_backend
from catchment.settings import Settings
from catchment.store import Store
from tests.kubernetes_double.double import KubernetesDouble


@pytest.fixture
def kubeconfig(api: KubernetesDouble, tmp_path: Path) -> Path:
    return api.kubeconfig(tmp_path / "kubeconfig")


@pytest.mark.parametrize("name", NAMES)
def test_each_name_opens_its_backend(store: Store, kubeconfig: Path, name: str) -> None:
    store.settings = Settings(kubeconfig=kubeconfig)
    assert open_backend(store, name).name == name


def test_without_a_name_the_settings_say(store: Store, kubeconfig: Path) -> None:
    store.settings = Settings(kubeconfig=kubeconfig, serving_backend="seldon")
    assert open_backend(store).name == "seldon"


def test_other_names_are_refused(store: Store) -> None:
    with pytest.raises(InvalidField, match="known are local, kubernetes, kserve, seldon"):
        open_backend(store, "nomad")


def test_a_cluster_that_is_not_known_is_a_matter_of_setup(store: Store, tmp_path: Path) -> None:
    store.settings = Settings(kubeconfig=tmp_path / "none")
    with pytest.raises(SetupError, match="CATCHMENT_KUBECONFIG"):
        open_backend(store, "kubernetes")

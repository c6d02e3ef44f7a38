"""Compose files: of known fields, hardened, with passwords asked for and never held."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT
from tests.deployments.schemas import COMPOSE

FILES = sorted((ROOT / "deployments").rglob("compose.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def composed(file: Path) -> dict[str, Any]:
    """The file's content without the parts that it only refers to."""
    content = yaml.safe_load(file.read_text())
    return {name: value for name, value in content.items() if not name.startswith("x-")}


def test_it_has_known_fields_only(composed: dict[str, Any]) -> None:
    jsonschema.validate(composed, COMPOSE)


def test_every_service_is_hardened_and_bounded(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert "mem_limit" in service, name
        assert "privileged" not in service, name


def test_what_it_names_is_there(composed: dict[str, Any], file: Path) -> None:
    for name, service in composed["services"].items():
        for env_file in service.get("env_file", []):
            assert (file.parent / env_file).is_file(), env_file
        for needed in service.get("depends_on", {}):
            assert needed in composed["services"], needed
        for network in service.get("networks", []):
            assert network in composed["networks"], network
        assert service.get("network_mode", "service:api") == "service:api", name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (file.parent / source).exists() or source == "./config", volume
            elif not source.startswith("$"):
                assert source in composed["volumes"], volume
        if "build" in service:
            context = (file.parent / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (
                f" AS {service['build']['target']}\n"
                in (context / service["build"]["dockerfile"]).read_text()
            )


def test_every_variable_is_in_the_example(file: Path) -> None:
    wanted = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", file.read_text()))
    example = (file.parent / ".env.example").read_text()
    assert wanted - set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE)) <= {
        "CATCHMENT_VERSION",
        "CATCHMENT_SITE_IMAGE",
    }


def test_no_password_is_held(file: Path) -> None:
    for name, value in re.findall(
        r"^\s*([A-Z_]*(?:PASSWORD|SECRET|KEY)[A-Z_]*): (.*)$", file.read_text(), re.MULTILINE
    ):
        assert value.startswith("${"), name
    example = (file.parent / ".env.example").read_text()
    assert not re.search(r"^[A-Z_]*(?:PASSWORD|SECRET|KEY)[A-Z_]*=\S", example, re.MULTILINE)


def test_nothing_is_published_beyond_this_machine(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${CATCHMENT_PUBLISH:-127.0.0.1:")), port

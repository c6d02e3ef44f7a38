"""Bounds of a model server, and the page that explains them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from catchment.errors import InvalidField
from catchment.model_server import config
from catchment.model_server.config import ServingConfig, available_cpus, read_config
from catchment.model_server.metrics import BUCKETS_S, Metrics

DOCS = Path(__file__).resolve().parents[3] / "docs" / "model-server.md"


def test_every_bound_is_documented() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))
    assert named == ServingConfig.model_fields.keys() - {"name", "version"}
    assert all(each.description for each in ServingConfig.model_fields.values())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "name"),
        ({"name": "../x"}, "name"),
        ({"name": "m", "queue": -1}, "queue"),
        ({"name": "m", "deadline_s": 0}, "deadline_s"),
        ({"name": "m", "thread": 1}, "thread"),
        ({"name": "m", "smoke_shapes": {"x": [-1]}}, "smoke_shapes.x.0"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(document: Any, field: str) -> None:
    with pytest.raises(InvalidField) as raised:
        read_config(document)
    assert raised.value.field == field


def test_processors_are_those_of_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "cpu.max"
    monkeypatch.setattr(config, "CGROUP", group)
    mine = available_cpus()
    group.write_text("50000 100000\n")
    assert available_cpus() == 1
    group.write_text("max 100000\n")
    assert available_cpus() == mine


def test_figures_are_in_the_text_format() -> None:
    metrics = Metrics("m", "1")
    for seconds in (0.0001, 0.003, 60.0):
        metrics.answered("rest", "200", seconds)
    lines = metrics.text({"ready": True}).splitlines()
    assert 'catchment_serving_ready{model="m",version="1"} 1' in lines
    assert 'catchment_serving_requests_total{model="m",version="1",protocol="rest",code="200"} 3' in lines
    buckets = [int(each.rsplit(" ", 1)[1]) for each in lines if "request_seconds_bucket" in each]
    assert len(buckets) == len(BUCKETS_S) + 1
    assert (buckets[0], buckets[3], buckets[-1]) == (1, 2, 3)
    assert all(re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+\{[^}]*\} \S+", each) for each in lines)
